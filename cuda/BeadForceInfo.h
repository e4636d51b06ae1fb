#pragma once
#include <vector>

#include "openmm/common/ComputeForceInfo.h"

namespace OpenMMCG {

/** Tells OpenMM which particles may change places in its order: those of one type. */
class BeadForceInfo : public OpenMM::ComputeForceInfo {
public:
    /** @param types, particles  of each bead */
    BeadForceInfo(int numParticles, const std::vector<int>& types, const std::vector<int>& particles)
        : typeOfParticle(numParticles, -1), particles(particles) {
        setTypes(types);
    }
    /** OpenMM has to be told, by invalidateMolecules(). */
    void setTypes(const std::vector<int>& types) {
        for (size_t i = 0; i < particles.size(); i++) typeOfParticle[particles[i]] = types[i];
    }
    bool areParticlesIdentical(int a, int b) override {
        return typeOfParticle[a] == typeOfParticle[b];
    }

private:
    std::vector<int> typeOfParticle;  // -1: not a bead
    std::vector<int> particles;       // of each bead
};

}  // namespace OpenMMCG
