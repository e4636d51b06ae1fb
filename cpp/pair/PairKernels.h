#pragma once

namespace OpenMMCG {

/** A box in reduced form: a = (ax, 0, 0), b = (bx, by, 0), c = (cx, cy, cz), and what 1 is divided by ax, by and cz. */
struct BoxNumbers {
    double ax, bx, by, cx, cy, cz, inverse[3];
};

/** Neighbors of one bead: which, the pair of kinds, the displacement from the bead (nm), and its square. */
struct NearPairs {
    int *bead, *pair;
    double *x, *y, *z, *square;
};

/** Tables of all pairs of kinds, see PairTable. */
struct PackedTables {
    const double* coefficients;  ///< [cells, 4]
    const int* first;            ///< the first cell of each pair of kinds
    const double* cellsPerUnit;  ///< of each, 1/nm
};

/** The inner loops of pair forces, compiled for several instruction sets. */
struct PairKernels {
    /**
     * The candidates that are nearer than a limit.
     *
     * @param bead, pair  of each of `count` candidates
     * @param positions  x, y and z of all beads
     * @param box  or null
     * @param found  has room for one more than there are candidates
     * @return how many they are
     */
    int (*find)(int count, const int* bead, const int* pair, const double* const* positions, const double* center,
                const BoxNumbers* box, double limit, const NearPairs& found);
    /** Energies, and their slopes over the distance; not a number where the table is not. */
    void (*evaluate)(int count, const NearPairs& pairs, const PackedTables& tables, double* energies,
                     double* strengths);
};

/** Those of getKernelSet(). */
const PairKernels& getPairKernels();

}  // namespace OpenMMCG
