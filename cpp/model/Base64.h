#pragma once
#include <string>
#include <vector>

namespace OpenMMCG {

/** RFC 4648 base64, without line breaks. */
std::string encodeBase64(const std::vector<char>& bytes);
/** The inverse; throws an OpenMMException where the text is not base64. */
std::vector<char> decodeBase64(const std::string& text);

}  // namespace OpenMMCG
