#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace OpenMMCG {

/**
 * The entries of a zip that lies in memory. Nothing is unpacked: an entry is read where it lies, stored and not
 * compressed, and what the directory says of it is checked against the bytes that there are and against its CRC-32.
 *
 * Errors are OpenMM::OpenMMException and begin with the name of the source.
 */
class ZipArchive {
public:
    /**
     * @param bytes   live for as long as the archive
     * @param source  what error messages call them
     */
    ZipArchive(std::string_view bytes, const std::string& source);
    bool has(const std::string& name) const {
        return entries.count(name) > 0;
    }
    std::vector<std::string> getNames() const;
    /** The content of an entry, a view of the archive's bytes. */
    std::string_view read(const std::string& name) const;

private:
    struct Entry {
        uint64_t offset, size;
        uint32_t checksum;
        bool stored;
    };
    [[noreturn]] void fail(const std::string& message) const;
    template <class T>
    T number(uint64_t position) const;
    std::map<std::string, Entry> readDirectory() const;
    std::string_view bytes;
    std::string source;
    std::map<std::string, Entry> entries;
};

}  // namespace OpenMMCG
