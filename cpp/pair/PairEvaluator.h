#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../neighbors/NeighborList.h"
#include "PairKernels.h"
#include "PairTable.h"

namespace OpenMMCG {

/**
 * Energy and forces of a PairForce at given positions, by a neighbor list that the replicas share. Each thread has
 * beads of its own, see NeighborList.
 */
class PairEvaluator {
public:
    struct Result {
        double energy = 0;
        std::vector<double> replicaEnergies;
        std::vector<double> derivatives;  ///< of the energy, with respect to the parameters that the force names
    };
    /**
     * @param definition  kept by the caller
     * @param tabulate  else every pair is evaluated by the expression
     */
    PairEvaluator(const OpenMM::CustomNonbondedForce& definition, int replicas, int threads, bool tabulate);
    /** Tabulate for values of all global parameters. */
    void setParameters(const std::map<std::string, double>& globals);
    /**
     * @param positions  nm, replica by replica
     * @param box  three vectors in reduced form, nm, or nullptr
     * @param globals  the values of all global parameters
     * @param forces  of all particles, overwritten
     */
    void evaluate(const std::vector<OpenMM::Vec3>& positions, const OpenMM::Vec3* box,
                  const std::map<std::string, double>& globals, std::vector<OpenMM::Vec3>& forces, Result& result);

private:
    /** A function of two kinds and the distance: the energy, or a derivative of it. */
    struct Function {
        std::vector<PairExpression> expressions;  ///< of pairs of kinds, the lower one first
        std::vector<double> coefficients, cellsPerUnit;
        std::vector<int> first;
        std::vector<char> isZero;
        /** Take over the tables of all pairs of kinds. */
        void pack(const std::vector<PairTable>& tables);
        /** Energies and slopes over the distance of pairs. */
        void evaluate(const PairKernels& kernels, int count, const NearPairs& pairs, double* energies,
                      double* strengths) const;
    };
    /** What a thread works with. */
    struct Share {
        std::vector<int> first, middle;       ///< as of NeighborList::Share
        std::vector<int> candidates, kinds;   ///< beads, as numbered by the list, and pairs of kinds
        std::vector<int> nearBead, nearPair;  ///< room for the neighbors of one bead, as of NearPairs
        std::vector<double> nearPlace[4], energies, strengths;
        std::vector<OpenMM::Vec3> forces;     ///< of its own beads
        std::vector<double> replicaEnergies;  ///< of its own beads' halves of pairs
        std::vector<double> derivatives;
    };
    void findKinds();
    void findExclusions();
    int countCells() const;
    int pairOf(int kind, int other) const;
    void choosePairs();
    void evaluateShare(int index);
    const OpenMM::CustomNonbondedForce& definition;
    const int replicas;
    const bool tabulate;
    const double cutoff;
    Parallel parallel;
    NeighborList neighbors;
    std::vector<std::map<std::string, double>> kinds;  ///< the parameters of the particles of a kind
    std::vector<int> kindOf;                           ///< of each particle of a replica
    std::vector<std::vector<int>> excluded;            ///< for each particle of a replica, in ascending order
    std::map<std::string, double> parameters;
    bool prepared = false;  ///< for these parameters
    Function energy;
    std::vector<Function> derivatives;
    const PairKernels& kernels;
    std::vector<double> sorted[3];
    std::optional<BoxNumbers> box;
    std::vector<Share> shares;
};

}  // namespace OpenMMCG
