#include "BoxGuard.h"

#include <algorithm>

#include "../neighbors/PeriodicBox.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ForceImpl.h"
#include "openmm/kernels.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

double getSmallestWidth(ContextImpl& context) {
    Vec3 box[3];
    context.getPeriodicBoxVectors(box[0], box[1], box[2]);
    return PeriodicBox(box).getSmallestWidth();
}

}  // namespace

void BoxGuard::initialize(ContextImpl& context, double cutoff, bool periodic) {
    this->cutoff = cutoff;
    this->periodic = periodic;
    for (ForceImpl* impl : context.getForceImpls()) {
        const auto names = impl->getKernelNames();
        hasBarostat |= std::count(names.begin(), names.end(), ApplyMonteCarloBarostatKernel::Name()) > 0;
    }
    check(context);
}

bool BoxGuard::fits(ContextImpl& context) const {
    return !periodic || 2 * cutoff <= getSmallestWidth(context);
}

void BoxGuard::check(ContextImpl& context) const {
    if (!fits(context))
        throw OpenMMException(force + ": " + what + " of " + std::to_string(cutoff) +
                              " nm is more than half the smallest width of the periodic box, " +
                              std::to_string(getSmallestWidth(context)) + " nm; use a box of at least " +
                              std::to_string(2 * cutoff) + " nm");
}

bool BoxGuard::isInfinite(ContextImpl& context, bool includeEnergy) {
    if (hasBarostat && includeEnergy && askedForEnergy && !fits(context)) {
        refusedMove = true;
        return true;
    }
    check(context);
    askedForEnergy = includeEnergy;
    if (refusedMove) {
        refusedMove = false;
        throw OpenMMException(force + ": the barostat tried a box with a width below twice " + what + ", " +
                              std::to_string(2 * cutoff) +
                              " nm. Its move was rejected, and the Context is as it was before; use a larger System, "
                              "or a lower pressure");
    }
    return false;
}

}  // namespace OpenMMCG
