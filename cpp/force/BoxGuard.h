#pragma once
#include <string>

#include "openmm/internal/ContextImpl.h"

namespace OpenMMCG {

/** Refuses boxes that are smaller than twice a cutoff, so that nothing of a Context is lost. */
class BoxGuard {
public:
    /** @param force, what  words for errors, such as "CGForce" and "the model's cutoff" */
    BoxGuard(const std::string& force, const std::string& what) : force(force), what(what) {
    }
    /** @param periodic  whether the force is; of one that is not, any box is large enough */
    void initialize(OpenMM::ContextImpl& context, double cutoff, bool periodic);
    bool fits(OpenMM::ContextImpl& context) const;
    /** Throws where the box is too small. */
    void check(OpenMM::ContextImpl& context) const;
    /**
     * To be called before each evaluation. A barostat asks for the energy before its move and after. It is told one
     * that it rejects, and restores the box and the positions that it has scaled; thrown here and now, an error would
     * leave the Context with those. The next call throws it.
     *
     * @return whether the energy is infinite
     */
    bool isInfinite(OpenMM::ContextImpl& context, bool includeEnergy);

private:
    std::string force, what;
    double cutoff = 0;
    bool periodic = false, hasBarostat = false;
    bool askedForEnergy = false;  ///< by the last evaluation
    bool refusedMove = false;     ///< whether a barostat has just tried a box that is too small
};

}  // namespace OpenMMCG
