#include "PairEvaluator.h"

#include <algorithm>
#include <cmath>

#include "../neighbors/Capacity.h"
#include "openmm/OpenMMException.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

const size_t mostKinds = 64;
const int fewestCells = 128;

}  // namespace

PairEvaluator::PairEvaluator(const CustomNonbondedForce& definition, int replicas, int threads, bool tabulate)
    : definition(definition),
      replicas(replicas),
      tabulate(tabulate),
      cutoff(definition.getCutoffDistance()),
      parallel(threads),
      neighbors(cutoff, verletSkin, parallel, replicas),
      kernels(getPairKernels()),
      shares(threads) {
    findKinds();
    findExclusions();
    const Lepton::ParsedExpression expression = parseEnergy(definition);
    const auto makeExpressions = [&](const Lepton::ParsedExpression& ofAll) {
        Function function;
        for (size_t second = 0; second < kinds.size(); second++)
            for (size_t first = 0; first <= second; first++) {
                std::map<std::string, double> ofBoth;
                for (const auto& [name, value] : kinds[first]) ofBoth[name + "1"] = value;
                for (const auto& [name, value] : kinds[second]) ofBoth[name + "2"] = value;
                function.expressions.emplace_back(ofAll, definition, ofBoth);
            }
        return function;
    };
    energy = makeExpressions(expression);
    for (int i = 0; i < definition.getNumEnergyParameterDerivatives(); i++)
        derivatives.push_back(
            makeExpressions(expression.differentiate(definition.getEnergyParameterDerivativeName(i)).optimize()));
}

void PairEvaluator::Function::pack(const std::vector<PairTable>& tables) {
    coefficients.clear();
    cellsPerUnit.clear();
    first.clear();
    isZero.clear();
    for (const PairTable& table : tables) {
        first.push_back(static_cast<int>(coefficients.size() / 4));
        requireCapacity(static_cast<int64_t>(coefficients.size() + 4 * table.getCoefficients().size()),
                        "the tables of all pairs of kinds");
        for (const auto& cell : table.getCoefficients())
            coefficients.insert(coefficients.end(), cell.begin(), cell.end());
        cellsPerUnit.push_back(table.getCellsPerUnit());
        isZero.push_back(table.isZero());
    }
}

void PairEvaluator::Function::evaluate(const PairKernels& kernels, int count, const NearPairs& pairs, double* energies,
                                       double* strengths) const {
    kernels.evaluate(count, pairs, {coefficients.data(), first.data(), cellsPerUnit.data()}, energies, strengths);
    for (int k = 0; k < count; k++)
        if (energies[k] != energies[k]) {
            const double r = std::sqrt(pairs.square[k]);
            const EnergyAndSlope exact = expressions[pairs.pair[k]].evaluate(r);
            energies[k] = exact.energy;
            strengths[k] = exact.slope / r;
        }
}

void PairEvaluator::findKinds() {
    std::map<std::vector<double>, int> numbers;
    std::vector<double> values;
    for (int particle = 0; particle < definition.getNumParticles(); particle++) {
        definition.getParticleParameters(particle, values);
        const auto [found, isNew] = numbers.emplace(values, static_cast<int>(numbers.size()));
        kindOf.push_back(found->second);
        if (!isNew)
            continue;
        if (numbers.size() > mostKinds)
            throw OpenMMException("the particles have more than " + std::to_string(mostKinds) +
                                  " different sets of parameters, so pairs cannot be tabulated; add the "
                                  "CustomNonbondedForce to the System as it is");
        auto& kind = kinds.emplace_back();
        for (size_t i = 0; i < values.size(); i++)
            kind[definition.getPerParticleParameterName(static_cast<int>(i))] = values[i];
    }
}

void PairEvaluator::findExclusions() {
    const int particles = definition.getNumParticles();
    excluded.resize(particles);
    for (int i = 0; i < definition.getNumExclusions(); i++) {
        int pair[2];
        definition.getExclusionParticles(i, pair[0], pair[1]);
        for (int particle : pair)
            if (particle < 0 || particle >= particles)
                throw OpenMMException("exclusion " + std::to_string(i) + " names particle " + std::to_string(particle) +
                                      " of " + std::to_string(particles));
        excluded[pair[0]].push_back(pair[1]);
        excluded[pair[1]].push_back(pair[0]);
    }
    for (auto& others : excluded) std::sort(others.begin(), others.end());
}

/** Where the energies are splines on equal cells up to the cutoff, tables of twice as many are exact. */
int PairEvaluator::countCells() const {
    int cells = fewestCells;
    for (int i = 0; i < definition.getNumTabulatedFunctions(); i++) {
        const TabulatedFunction* function = &definition.getTabulatedFunction(i);
        std::vector<double> values;
        int size[2];
        double least[2], most[2];
        if (const auto* line = dynamic_cast<const Continuous1DFunction*>(function)) {
            line->getFunctionParameters(values, least[1], most[1]);
            size[1] = static_cast<int>(values.size());
        } else if (const auto* plane = dynamic_cast<const Continuous2DFunction*>(function))
            plane->getFunctionParameters(size[0], size[1], values, least[0], most[0], least[1], most[1]);
        else
            continue;
        if (least[1] == 0 && most[1] == cutoff)
            cells = size[1] - 1;
    }
    return cells;
}

void PairEvaluator::setParameters(const std::map<std::string, double>& globals) {
    parameters = globals;
    prepared = true;
    const int cells = countCells();
    const auto apply = [&](Function& function) {
        std::vector<PairTable> tables;
        for (PairExpression& expression : function.expressions) {
            expression.setParameters(globals);
            tables.push_back(tabulate ? PairTable(expression, cutoff, cells) : PairTable(cutoff));
        }
        function.pack(tables);
    };
    apply(energy);
    for (Function& derivative : derivatives) apply(derivative);
}

int PairEvaluator::pairOf(int kind, int other) const {
    const int low = std::min(kind, other), high = std::max(kind, other);
    return high * (high + 1) / 2 + low;
}

/** Of the neighbors in the list, those that are not excluded and whose kinds act on each other. */
void PairEvaluator::choosePairs() {
    const int particles = definition.getNumParticles();
    std::vector<char> acts;
    for (size_t pair = 0; pair < energy.expressions.size(); pair++) {
        bool zero = energy.isZero[pair];
        for (const Function& derivative : derivatives) zero = zero && derivative.isZero[pair];
        acts.push_back(!zero);
    }
    parallel.run([&](int index) {
        const NeighborList::Share& list = neighbors.getShares()[index];
        const std::vector<int>& order = neighbors.getOrder();
        Share& share = shares[index];
        share.first.assign(1, 0);
        share.middle.clear();
        share.candidates.clear();
        share.kinds.clear();
        size_t most = 0;
        const auto choose = [&](int particle, int from, int to) {
            const auto& others = excluded[particle];
            for (int k = from; k < to; k++) {
                const int other = order[list.neighbors[k]] % particles;
                const int pair = pairOf(kindOf[particle], kindOf[other]);
                if (!acts[pair] || std::binary_search(others.begin(), others.end(), other))
                    continue;
                share.candidates.push_back(list.neighbors[k]);
                share.kinds.push_back(pair);
            }
        };
        for (int i = list.begin; i < list.end; i++) {
            const int particle = order[i] % particles, row = i - list.begin;
            choose(particle, list.first[row], list.middle[row]);
            share.middle.push_back(static_cast<int>(share.candidates.size()));
            choose(particle, list.middle[row], list.first[row + 1]);
            share.first.push_back(static_cast<int>(share.candidates.size()));
            most = std::max(most, share.candidates.size() - share.first[row]);
        }
        share.nearBead.resize(most + 1);
        share.nearPair.resize(most + 1);
        for (auto* numbers : {&share.nearPlace[0], &share.nearPlace[1], &share.nearPlace[2], &share.nearPlace[3],
                              &share.energies, &share.strengths})
            numbers->resize(most + 1);
    });
}

void PairEvaluator::evaluateShare(int index) {
    const NeighborList::Share& list = neighbors.getShares()[index];
    Share& share = shares[index];
    share.forces.assign(list.end - list.begin, Vec3());
    share.replicaEnergies.assign(replicas, 0);
    share.derivatives.assign(derivatives.size(), 0);
    const NearPairs near{share.nearBead.data(),     share.nearPair.data(),     share.nearPlace[0].data(),
                         share.nearPlace[1].data(), share.nearPlace[2].data(), share.nearPlace[3].data()};
    const double* places[3] = {sorted[0].data(), sorted[1].data(), sorted[2].data()};
    double *energies = share.energies.data(), *strengths = share.strengths.data();
    /** Visit the pairs of a bead; `part` of their energy is its own. */
    const auto visit = [&](int i, int from, int to, double part, Vec3& force, double& sum) {
        const double center[3] = {sorted[0][i], sorted[1][i], sorted[2][i]};
        const int count = kernels.find(to - from, share.candidates.data() + from, share.kinds.data() + from, places,
                                       center, box ? &*box : nullptr, cutoff * cutoff, near);
        energy.evaluate(kernels, count, near, energies, strengths);
        for (int k = 0; k < count; k++) {
            const Vec3 pull(near.x[k] * strengths[k], near.y[k] * strengths[k], near.z[k] * strengths[k]);
            sum += part * energies[k];
            force += pull;
            if (part == 1)
                share.forces[near.bead[k] - list.begin] -= pull;
        }
        for (size_t d = 0; d < derivatives.size(); d++) {
            derivatives[d].evaluate(kernels, count, near, energies, strengths);
            for (int k = 0; k < count; k++) share.derivatives[d] += part * energies[k];
        }
    };
    const int particles = definition.getNumParticles();
    for (int i = list.begin; i < list.end; i++) {
        const int row = i - list.begin;
        Vec3 force;
        double sum = 0;
        visit(i, share.first[row], share.middle[row], 1, force, sum);
        visit(i, share.middle[row], share.first[row + 1], 0.5, force, sum);
        share.forces[row] += force;
        share.replicaEnergies[neighbors.getOrder()[i] / particles] += sum;
    }
}

void PairEvaluator::evaluate(const std::vector<Vec3>& positions, const Vec3* box,
                             const std::map<std::string, double>& globals, std::vector<Vec3>& forces, Result& result) {
    const bool changed = !prepared || globals != parameters;
    if (changed)
        setParameters(globals);
    if (neighbors.update(positions, box) || changed)
        choosePairs();
    const std::vector<int>& order = neighbors.getOrder();
    for (int d = 0; d < 3; d++) {
        sorted[d].resize(order.size());
        for (size_t i = 0; i < order.size(); i++) sorted[d][i] = positions[order[i]][d];
    }
    this->box.reset();
    if (box != nullptr)
        this->box = BoxNumbers{box[0][0],
                               box[1][0],
                               box[1][1],
                               box[2][0],
                               box[2][1],
                               box[2][2],
                               {1 / box[0][0], 1 / box[1][1], 1 / box[2][2]}};
    parallel.run([&](int index) {
        evaluateShare(index);
        const Share& share = shares[index];
        const int begin = neighbors.getShares()[index].begin;
        for (size_t i = 0; i < share.forces.size(); i++) forces[order[begin + i]] = share.forces[i];
    });
    result.energy = 0;
    result.replicaEnergies.assign(replicas, 0);
    result.derivatives.assign(derivatives.size(), 0);
    for (const Share& share : shares) {
        for (int i = 0; i < replicas; i++) {
            result.replicaEnergies[i] += share.replicaEnergies[i];
            result.energy += share.replicaEnergies[i];
        }
        for (size_t d = 0; d < derivatives.size(); d++) result.derivatives[d] += share.derivatives[d];
    }
}

}  // namespace OpenMMCG
