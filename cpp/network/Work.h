#pragma once
#include <string>

#include "Program.h"

namespace OpenMMCG {

/** What has to be done at least: the roof under which a kernel's time is read (Williams et al., CACM 52, 65, 2009). */
struct Work {
    double operations = 0;  ///< floating point; a fused multiply and add is two
    double memory = 0;      ///< bytes, if every array came from memory, or went there, just once
    double cache = 0;       ///< bytes that a convolution's loads and stores ask the caches for
};

/** A kernel, how long it took in one evaluation of energy and forces, and its work. */
struct KernelTime {
    std::string name;
    double seconds;
    Work work;
};

/**
 * The work of a program's kernels in one evaluation of energy and forces.
 *
 * Kernels have the same names in all native engines: `convolve` and `convolveAdjoint` with the number of the operation,
 * `forward` and `reverse` with the number of the segment; where the last segment is a kernel that turns around,
 * `last…`.
 */
class WorkEstimate {
public:
    /**
     * @param edges  pairs within the cutoff, each counted in both directions
     * @param realSize  bytes of a number
     */
    WorkEstimate(const Program& program, double beads, double edges, int realSize)
        : program(program), beads(beads), edges(edges), realSize(realSize) {
    }
    /** Nothing for kernels that belong to no program, such as those of the neighbor list. */
    Work of(const std::string& kernel) const;

private:
    Work convolution(int k) const;
    Work convolutionAdjoint(int k) const;
    /** Of all in a segment but its convolutions; that of its adjoint is the same. */
    Work segment(int number) const;
    const Program& program;
    double beads, edges;
    int realSize;
};

}  // namespace OpenMMCG
