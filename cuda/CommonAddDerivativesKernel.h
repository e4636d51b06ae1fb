#pragma once
#include "../cpp/force/CGForceKernel.h"
#include "openmm/common/ComputeContext.h"

namespace OpenMMCG {

/** Adds them when OpenMM has added the forces that the same evaluation on the host computed. */
class CommonAddDerivativesKernel : public AddDerivativesKernel {
public:
    CommonAddDerivativesKernel(std::string name, const OpenMM::Platform& platform, OpenMM::ComputeContext& compute)
        : AddDerivativesKernel(name, platform), compute(compute) {
    }
    void initialize(const std::vector<std::string>& names, const std::vector<double>& values, int forceGroup) override {
        for (const std::string& name : names) compute.addEnergyParameterDerivative(name);
        compute.addPostComputation(new AfterForces(compute, names, values, forceGroup));
    }

private:
    struct AfterForces : OpenMM::ComputeContext::ForcePostComputation {
        AfterForces(OpenMM::ComputeContext& compute, const std::vector<std::string>& names,
                    const std::vector<double>& values, int forceGroup)
            : compute(compute), names(names), values(values), forceGroup(forceGroup) {
        }
        double computeForceAndEnergy(bool includeForces, bool includeEnergy, int groups) override {
            if (includeForces && (groups & (1 << forceGroup)) != 0)
                for (size_t i = 0; i < names.size(); i++) compute.getEnergyParamDerivWorkspace()[names[i]] += values[i];
            return 0;
        }
        OpenMM::ComputeContext& compute;
        std::vector<std::string> names;
        const std::vector<double>& values;
        int forceGroup;
    };
    OpenMM::ComputeContext& compute;
};

}  // namespace OpenMMCG
