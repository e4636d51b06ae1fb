#include "ZipArchive.h"

#include <array>
#include <cstring>

#include "openmm/OpenMMException.h"

namespace OpenMMCG {

namespace {

uint32_t crc32(std::string_view data) {
    static const std::array<uint32_t, 256> table = [] {
        std::array<uint32_t, 256> result{};
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ (value & 1 ? 0xEDB88320u : 0u);
            result[i] = value;
        }
        return result;
    }();
    uint32_t result = 0xFFFFFFFFu;
    for (char c : data) result = table[(result ^ static_cast<uint8_t>(c)) & 0xFF] ^ (result >> 8);
    return ~result;
}

// Signatures and field offsets of the zip format (PKWARE APPNOTE 6.3, sections 4.3 and 4.5.3).
const uint32_t endSignature = 0x06054b50, end64Signature = 0x06064b50, locatorSignature = 0x07064b50;
const uint32_t directorySignature = 0x02014b50, localSignature = 0x04034b50;
const uint64_t endSize = 22, locatorSize = 20, directoryHeaderSize = 46, localHeaderSize = 30;

}  // namespace

ZipArchive::ZipArchive(std::string_view bytes, const std::string& source)
    : bytes(bytes), source(source), entries(readDirectory()) {
}

void ZipArchive::fail(const std::string& message) const {
    throw OpenMM::OpenMMException("CGForce: " + source + " " + message);
}

std::vector<std::string> ZipArchive::getNames() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : entries) names.push_back(name);
    return names;
}

template <class T>
T ZipArchive::number(uint64_t position) const {
    if (position > bytes.size() || sizeof(T) > bytes.size() - position)
        fail("is truncated or corrupted; save the potential again, or copy the file again");
    T value;
    std::memcpy(&value, bytes.data() + position, sizeof(T));
    return value;
}

/** Where the entries are, and that they lie within the file. */
std::map<std::string, ZipArchive::Entry> ZipArchive::readDirectory() const {
    std::map<std::string, Entry> found;
    const std::string notAnArchive =
        "is not a complete potential file (no zip directory found): it is truncated, or not written by "
        "CGPotential.save() or torch";
    uint64_t end = bytes.size() < endSize ? 0 : bytes.size() - endSize + 1;
    const uint64_t searchLimit = end > 65535 ? end - 65535 : 0;
    while (end > searchLimit && number<uint32_t>(end - 1) != endSignature) end--;
    if (end == searchLimit)
        fail(notAnArchive);
    end--;
    uint64_t count = number<uint16_t>(end + 10), position = number<uint32_t>(end + 16);
    if (end >= locatorSize && number<uint32_t>(end - locatorSize) == locatorSignature) {
        const uint64_t end64 = number<uint64_t>(end - locatorSize + 8);
        if (number<uint32_t>(end64) != end64Signature)
            fail(notAnArchive);
        count = number<uint64_t>(end64 + 32);
        position = number<uint64_t>(end64 + 48);
    }
    for (uint64_t i = 0; i < count; i++) {
        if (number<uint32_t>(position) != directorySignature)
            fail("is corrupted: its directory cannot be read");
        const uint16_t nameLength = number<uint16_t>(position + 28), extraLength = number<uint16_t>(position + 30);
        Entry entry{number<uint32_t>(position + 42), number<uint32_t>(position + 24), number<uint32_t>(position + 16),
                    number<uint16_t>(position + 10) == 0};
        uint64_t compressedSize = number<uint32_t>(position + 20);
        const uint64_t namePosition = position + directoryHeaderSize;
        const uint64_t next = namePosition + nameLength + extraLength + number<uint16_t>(position + 32);
        if (next > bytes.size())
            fail("is truncated or corrupted: its directory runs past its end");
        const std::string name(bytes.data() + namePosition, nameLength);
        for (uint64_t field = namePosition + nameLength; field + 4 <= namePosition + nameLength + extraLength;
             field += 4 + number<uint16_t>(field + 2)) {
            if (number<uint16_t>(field) != 1)
                continue;
            uint64_t value = field + 4;
            for (uint64_t* part : {&entry.size, &compressedSize, &entry.offset})
                if (*part == 0xFFFFFFFFu) {
                    *part = number<uint64_t>(value);
                    value += 8;
                }
        }
        if (number<uint32_t>(entry.offset) != localSignature)
            fail("is corrupted: the entry '" + name + "' is not where the directory says");
        entry.offset += localHeaderSize + number<uint16_t>(entry.offset + 26) + number<uint16_t>(entry.offset + 28);
        if (entry.stored && entry.size != compressedSize)
            fail("is corrupted: the entry '" + name + "' is of two sizes");
        if (compressedSize > bytes.size() || entry.offset > bytes.size() - compressedSize)
            fail("is truncated or corrupted: the entry '" + name + "' runs past its end");
        if (!found.emplace(name, entry).second)
            fail("is corrupted: it holds the entry '" + name + "' twice");
        position = next;
    }
    return found;
}

std::string_view ZipArchive::read(const std::string& name) const {
    auto found = entries.find(name);
    if (found == entries.end())
        fail("has no entry '" + name + "'");
    const Entry& entry = found->second;
    if (!entry.stored)
        fail("holds the entry '" + name + "' compressed; it must be stored, as CGPotential.save() does");
    std::string_view content(bytes.data() + entry.offset, entry.size);
    if (crc32(content) != entry.checksum)
        fail("is corrupted: the checksum of '" + name + "' does not agree; save or copy the file again");
    return content;
}

}  // namespace OpenMMCG
