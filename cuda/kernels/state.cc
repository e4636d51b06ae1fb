// State of the neighbor list, three numbers.
//
// Whether the list is still valid is decided on the device: `state[REBUILT]` is the number of the evaluation that builds
// it anew. Where a bead has more neighbors than there is room for, `state[OVERFLOWED]` is set; no kernel adds forces or
// energies then, and the host starts over. `state[NOT_FINITE]` is one more than the number of a bead whose position is
// not a number.

#define REBUILT 0
#define OVERFLOWED 1
#define NOT_FINITE 2

