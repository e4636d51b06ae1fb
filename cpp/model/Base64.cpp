#include "Base64.h"

#include <array>
#include <cstdint>

#include "openmm/OpenMMException.h"

namespace OpenMMCG {

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string encodeBase64(const std::vector<char>& bytes) {
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t group = 0;
        for (size_t j = i; j < i + 3; j++)
            group = group << 8 | (j < bytes.size() ? static_cast<uint8_t>(bytes[j]) : 0u);
        for (size_t j = 0; j < 4; j++) text += i + j > bytes.size() ? '=' : alphabet[group >> (18 - 6 * j) & 63];
    }
    return text;
}

std::vector<char> decodeBase64(const std::string& text) {
    static const std::array<int, 256> value = [] {
        std::array<int, 256> result;
        result.fill(-1);
        for (int i = 0; i < 64; i++) result[static_cast<uint8_t>(alphabet[i])] = i;
        return result;
    }();
    size_t length = text.size();
    while (length > 0 && text[length - 1] == '=') length--;
    if (text.size() % 4 != 0 || text.size() - length > 2)
        throw OpenMM::OpenMMException(
            "CGForce: the model in the XML is truncated (its base64 text has an impossible length)");
    std::vector<char> bytes;
    bytes.reserve(length * 3 / 4);
    uint32_t group = 0;
    int bits = 0;
    for (size_t i = 0; i < length; i++) {
        const int digit = value[static_cast<uint8_t>(text[i])];
        if (digit < 0)
            throw OpenMM::OpenMMException("CGForce: the model in the XML is corrupted (not base64)");
        group = group << 6 | static_cast<uint32_t>(digit);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes.push_back(static_cast<char>(group >> bits & 0xFF));
        }
    }
    return bytes;
}

}  // namespace OpenMMCG
