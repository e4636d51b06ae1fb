#pragma once
#include "Program.h"

namespace OpenMMCG {

/** What has to be done at least: the roof under which a kernel's time is read (Williams et al., CACM 52, 65, 2009). */
struct Work {
    double operations = 0;  ///< floating point; a fused multiply and add is two
    double memory = 0;      ///< bytes, if every array came from memory, or went there, just once
    double cache = 0;       ///< bytes that a convolution's loads and stores ask the caches for
};

/** The work of a program's kernels in one evaluation of forces. */
class WorkEstimate {
public:
    /**
     * @param edges  pairs within the cutoff, each counted in both directions
     * @param realSize  bytes of a number
     */
    WorkEstimate(const Program& program, double beads, double edges, int realSize)
        : program(program), beads(beads), edges(edges), realSize(realSize) {
    }
    /** Of operation k, a convolution. */
    Work convolution(int k) const;
    Work convolutionAdjoint(int k) const;
    /** Of all else in a segment; that of its adjoint is the same. */
    Work segment(int number) const;

private:
    const Program& program;
    double beads, edges;
    int realSize;
};

}  // namespace OpenMMCG
