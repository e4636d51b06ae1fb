// Positions of the beads, their neighbor list, and the edges: the pairs within the cutoff at this moment. The list holds
// all neighbors of every bead (each pair in both directions) within cutoff + skin.

/** The minimum image; the box vectors' fourth number is the inverse of the diagonal element. */
DEVICE mixed4 minimumImage(mixed4 d, mixed4 boxX, mixed4 boxY, mixed4 boxZ) {
#ifdef PERIODIC
    const mixed k = floor(d.z*boxZ.w+(mixed) 0.5);
    d.x -= k*boxZ.x;
    d.y -= k*boxZ.y;
    d.z -= k*boxZ.z;
    const mixed j = floor(d.y*boxY.w+(mixed) 0.5);
    d.x -= j*boxY.x;
    d.y -= j*boxY.y;
    d.x -= floor(d.x*boxX.w+(mixed) 0.5)*boxX.x;
#endif
    return d;
}

/** Where OpenMM keeps each bead at present. */
KERNEL void findSlots(GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT beadOfParticle,
        GLOBAL int* RESTRICT slots) {
    for (int slot = GLOBAL_ID; slot < NUM_ATOMS; slot += GLOBAL_SIZE) {
        const int bead = beadOfParticle[atomIndex[slot]];
        if (bead >= 0)
            slots[bead] = slot;
    }
}

/** Take the positions over, and see whether a bead has moved too far for the list. */
KERNEL void gatherPositions(int evaluation, int mustRebuild, mixed limit, GLOBAL const real4* RESTRICT posq,
        GLOBAL const int* RESTRICT slots, GLOBAL mixed4* RESTRICT positions,
        GLOBAL const mixed4* RESTRICT builtPositions, GLOBAL int* RESTRICT state
#ifdef USE_MIXED_PRECISION
        , GLOBAL const real4* RESTRICT posqCorrection
#endif
        ) {
    if (GLOBAL_ID == 0) {
        state[OVERFLOWED] = 0;
        state[NOT_FINITE] = 0;
    }
    for (int i = GLOBAL_ID; i < NUM_BEADS; i += GLOBAL_SIZE) {
        const int slot = slots[i];
        const real4 r = posq[slot];
#ifdef USE_MIXED_PRECISION
        const real4 rest = posqCorrection[slot];
        const mixed4 position = make_mixed4(r.x+(mixed) rest.x, r.y+(mixed) rest.y, r.z+(mixed) rest.z, 0);
#else
        const mixed4 position = make_mixed4(r.x, r.y, r.z, 0);
#endif
        positions[i] = position;
        const mixed4 built = builtPositions[i];
        const mixed x = position.x-built.x, y = position.y-built.y, z = position.z-built.z;
        if (mustRebuild || !(x*x+y*y+z*z < limit))
            state[REBUILT] = evaluation;
    }
}

#ifdef USE_CELLS
/** Sort the beads into cells, replica after replica; within a cell by number. Runs as a single block of threads. */
KERNEL void sortIntoCells(int evaluation, mixed radius, mixed4 boxX, mixed4 boxY, mixed4 boxZ, int cellsX, int cellsY,
        int cellsZ, GLOBAL const mixed4* RESTRICT positions, GLOBAL const int* RESTRICT state, GLOBAL int* RESTRICT grid, GLOBAL int* RESTRICT cellOfBead, GLOBAL int* RESTRICT cellStart,
        GLOBAL int* RESTRICT cursor, GLOBAL int* RESTRICT sortedBeads) {
    LOCAL mixed low[3*SORT_THREADS], high[3*SORT_THREADS];
    LOCAL int sums[SORT_THREADS+1];
    if (state[REBUILT] != evaluation)
        return;
    int cells[3];
    cells[0] = cellsX;
    cells[1] = cellsY;
    cells[2] = cellsZ;
    mixed origin[3], scale[3];
#ifndef PERIODIC
    // The grid spans the bounding box of all beads.
    mixed4 least = positions[0], most = positions[0];
    for (int i = LOCAL_ID; i < NUM_BEADS; i += SORT_THREADS) {
        const mixed4 r = positions[i];
        least.x = fmin(least.x, r.x);
        least.y = fmin(least.y, r.y);
        least.z = fmin(least.z, r.z);
        most.x = fmax(most.x, r.x);
        most.y = fmax(most.y, r.y);
        most.z = fmax(most.z, r.z);
    }
    low[LOCAL_ID] = least.x;
    low[LOCAL_ID+SORT_THREADS] = least.y;
    low[LOCAL_ID+2*SORT_THREADS] = least.z;
    high[LOCAL_ID] = most.x;
    high[LOCAL_ID+SORT_THREADS] = most.y;
    high[LOCAL_ID+2*SORT_THREADS] = most.z;
    SYNC_THREADS;
    for (int step = SORT_THREADS/2; step > 0; step /= 2) {
        if (LOCAL_ID < step)
            for (int d = 0; d < 3; d++) {
                const int k = LOCAL_ID+d*SORT_THREADS;
                low[k] = fmin(low[k], low[k+step]);
                high[k] = fmax(high[k], high[k+step]);
            }
        SYNC_THREADS;
    }
    for (int d = 0; d < 3; d++) {
        origin[d] = low[d*SORT_THREADS];
        const mixed extent = high[d*SORT_THREADS]-origin[d];
        cells[d] = (int) fmin(fmax(floor(extent/radius), (mixed) 1), (mixed) MAX_CELLS_ALONG);
        scale[d] = cells[d]/fmax(extent, (mixed) 1e-9);
    }
    SYNC_THREADS;
#endif
    if (LOCAL_ID < 3)
        grid[LOCAL_ID] = cells[LOCAL_ID];
    const int cellsOfReplica = cells[0]*cells[1]*cells[2];
    const int allCells = cellsOfReplica*(NUM_BEADS/BEADS_PER_REPLICA);
    for (int cell = LOCAL_ID; cell < allCells; cell += SORT_THREADS)
        cursor[cell] = 0;
    SYNC_THREADS;
    for (int i = LOCAL_ID; i < NUM_BEADS; i += SORT_THREADS) {
        mixed place[3];
        const mixed4 r = positions[i];
#ifdef PERIODIC
        place[2] = r.z*boxZ.w;
        place[1] = (r.y-place[2]*boxZ.y)*boxY.w;
        place[0] = (r.x-place[1]*boxY.x-place[2]*boxZ.x)*boxX.w;
        for (int d = 0; d < 3; d++)
            place[d] = (place[d]-floor(place[d]))*cells[d];
#else
        place[0] = (r.x-origin[0])*scale[0];
        place[1] = (r.y-origin[1])*scale[1];
        place[2] = (r.z-origin[2])*scale[2];
#endif
        int cell = 0;
        for (int d = 2; d >= 0; d--)
            cell = cell*cells[d]+max(min((int) place[d], cells[d]-1), 0);
        cell += i/BEADS_PER_REPLICA*cellsOfReplica;
        cellOfBead[i] = cell;
        ATOMIC_ADD(&cursor[cell], 1);
    }
    SYNC_THREADS;
    // Each thread adds up a stretch of cells, one thread the stretches.
    const int stretch = (allCells+SORT_THREADS-1)/SORT_THREADS;
    const int begin = min((int) LOCAL_ID*stretch, allCells), end = min(begin+stretch, allCells);
    int sum = 0;
    for (int cell = begin; cell < end; cell++)
        sum += cursor[cell];
    sums[LOCAL_ID+1] = sum;
    SYNC_THREADS;
    if (LOCAL_ID == 0) {
        sums[0] = 0;
        for (int k = 0; k < SORT_THREADS; k++)
            sums[k+1] += sums[k];
        cellStart[allCells] = NUM_BEADS;
    }
    SYNC_THREADS;
    sum = sums[LOCAL_ID];
    for (int cell = begin; cell < end; cell++) {
        const int count = cursor[cell];
        cellStart[cell] = sum;
        cursor[cell] = sum;
        sum += count;
    }
    SYNC_THREADS;
    for (int i = LOCAL_ID; i < NUM_BEADS; i += SORT_THREADS)
        sortedBeads[ATOMIC_ADD(&cursor[cellOfBead[i]], 1)] = i;
    SYNC_THREADS;
    // The order in which threads came must not show: it would change the rounding of sums.
    for (int cell = LOCAL_ID; cell < allCells; cell += SORT_THREADS)
        for (int k = cellStart[cell]+1; k < cellStart[cell+1]; k++) {
            const int bead = sortedBeads[k];
            int place = k;
            for (; place > cellStart[cell] && sortedBeads[place-1] > bead; place--)
                sortedBeads[place] = sortedBeads[place-1];
            sortedBeads[place] = bead;
        }
}
#endif

// LANES threads look for the neighbors of a bead, each among every LANES-th that comes into question: first they count what
// they find, then all know where to put theirs. So the order does not depend on timing. A pair at the very limit may be
// judged differently the second time, if the compiler rounds differently there; no share outgrows its place for that, and
// no place is left as it was.

/** Where this thread's finds begin among those of its bead, and how many those are. For all threads of a block at once. */
DEVICE int2 placeFinds(int count, LOCAL_ARG int* counts) {
    SYNC_THREADS;
    counts[LOCAL_ID] = count;
    SYNC_THREADS;
    const int lane = LOCAL_ID%LANES;
    int2 result = make_int2(0, 0);
    for (int k = 0; k < LANES; k++) {
        const int other = counts[LOCAL_ID-lane+k];
        result.x += (k < lane ? other : 0);
        result.y += other;
    }
    return result;
}

/**
 * How many of the beads listed[from … to-1] (without a list: from … to-1) are near bead i, of this thread's share; they
 * are put into the bead's list at `place` and after it, before `end`.
 */
DEVICE int findNear(int i, int from, int to, GLOBAL const int* listed, GLOBAL const mixed4* positions, mixed radius,
        mixed4 boxX, mixed4 boxY, mixed4 boxZ, int capacity, int place, int end, GLOBAL int* candidates) {
    const mixed4 center = positions[i];
    int count = 0;
    for (int k = from+LOCAL_ID%LANES; k < to; k += LANES) {
#ifdef USE_CELLS
        const int j = listed[k];
#else
        const int j = k;
#endif
        const mixed4 other = positions[j];
        const mixed4 d = minimumImage(make_mixed4(other.x-center.x, other.y-center.y, other.z-center.z, 0), boxX, boxY, boxZ);
        if (j != i && d.x*d.x+d.y*d.y+d.z*d.z < radius*radius) {
            if (place+count < end)
                candidates[i*capacity+place+count] = j;
            count++;
        }
    }
    return count;
}

/** The same for all beads, which are found by way of the cells around bead i. */
DEVICE int findCandidates(int i, GLOBAL const int* grid, GLOBAL const int* cellOfBead, GLOBAL const int* cellStart,
        GLOBAL const int* sortedBeads, GLOBAL const mixed4* positions, mixed radius, mixed4 boxX, mixed4 boxY,
        mixed4 boxZ, int capacity, int place, int end, GLOBAL int* candidates) {
#ifdef USE_CELLS
    int count = 0;
    const int nx = grid[0], ny = grid[1], nz = grid[2];
    const int replica = cellOfBead[i]/(nx*ny*nz);
    const int cell = cellOfBead[i]-replica*nx*ny*nz;
    const int x = cell%nx, y = cell/nx%ny, z = cell/(nx*ny);
    for (int dz = -1; dz <= 1; dz++) {
        int cz = z+dz;
#ifdef PERIODIC
        if ((nz == 1 && dz != 0) || (nz == 2 && dz == 1))
            continue; // would come twice
        cz = (cz+nz)%nz;
#endif
        if (cz < 0 || cz >= nz)
            continue;
        for (int dy = -1; dy <= 1; dy++) {
            int cy = y+dy;
#ifdef PERIODIC
            if ((ny == 1 && dy != 0) || (ny == 2 && dy == 1))
                continue;
            cy = (cy+ny)%ny;
#endif
            if (cy < 0 || cy >= ny)
                continue;
            // Cells that follow each other along x are one stretch of beads, and what is beyond an end another.
            GLOBAL const int* start = cellStart+((replica*nz+cz)*ny+cy)*nx;
            count += findNear(i, start[max(x-1, 0)], start[min(x+2, nx)], sortedBeads, positions, radius, boxX, boxY,
                    boxZ, capacity, place+count, end, candidates);
#ifdef PERIODIC
            if (nx > 2 && (x == 0 || x == nx-1)) {
                const int other = (x == 0 ? nx-1 : 0);
                count += findNear(i, start[other], start[other+1], sortedBeads, positions, radius, boxX, boxY, boxZ,
                        capacity, place+count, end, candidates);
            }
#endif
        }
    }
    return count;
#else
    const int first = i/BEADS_PER_REPLICA*BEADS_PER_REPLICA;
    return findNear(i, first, first+BEADS_PER_REPLICA, 0, positions, radius, boxX, boxY, boxZ, capacity, place, end,
            candidates);
#endif
}

/** The vector from bead i to its k-th candidate, with its square; the candidate's number is left in `neighbor`. */
DEVICE mixed4 getDisplacement(int i, int k, int capacity, GLOBAL const int* candidates, GLOBAL const mixed4* positions,
        mixed4 boxX, mixed4 boxY, mixed4 boxZ, int* neighbor) {
    const int j = candidates[i*capacity+k];
    const mixed4 from = positions[i], to = positions[max(j, 0)];
    mixed4 d = minimumImage(make_mixed4(to.x-from.x, to.y-from.y, to.z-from.z, 0), boxX, boxY, boxZ);
    d.w = d.x*d.x+d.y*d.y+d.z*d.z;
    *neighbor = j;
    return d;
}

/** Bring the list up to date where it has to be, and pick the pairs that are within the cutoff now. */
KERNEL void findEdges(int evaluation, mixed radius, mixed4 boxX, mixed4 boxY, mixed4 boxZ, int capacity,
        GLOBAL const mixed4* RESTRICT positions, GLOBAL mixed4* RESTRICT builtPositions, GLOBAL int* RESTRICT state,
        GLOBAL int* RESTRICT candidateCounts, GLOBAL int* candidates, GLOBAL int* RESTRICT edgeCounts,
        GLOBAL int* RESTRICT neighbors, GLOBAL real4* RESTRICT edges
#ifdef USE_CELLS
        , GLOBAL const int* RESTRICT grid, GLOBAL const int* RESTRICT cellOfBead, GLOBAL const int* RESTRICT cellStart,
        GLOBAL const int* RESTRICT sortedBeads
#endif
        ) {
#ifndef USE_CELLS
    GLOBAL const int *grid = 0, *cellOfBead = 0, *cellStart = 0, *sortedBeads = 0;
#endif
    LOCAL int counts[LIST_THREADS];
    const int rebuild = (state[REBUILT] == evaluation), lane = LOCAL_ID%LANES, beadsPerBlock = LIST_THREADS/LANES;
    for (int first = GROUP_ID*beadsPerBlock; first < NUM_BEADS; first += NUM_GROUPS*beadsPerBlock) {
        // All threads take part in the sums; those beyond the last bead find nothing.
        const int i = min(first+(int) LOCAL_ID/LANES, NUM_BEADS-1), isBead = (first+(int) LOCAL_ID/LANES < NUM_BEADS);
        int candidateCount;
        if (rebuild) {
            int count = 0;
            if (isBead)
                count = findCandidates(i, grid, cellOfBead, cellStart, sortedBeads, positions, radius, boxX, boxY, boxZ,
                        capacity, 0, 0, candidates);
            const int2 place = placeFinds(count, counts);
            candidateCount = place.y;
            if (isBead) {
                const int end = min(place.x+count, capacity);
                count = findCandidates(i, grid, cellOfBead, cellStart, sortedBeads, positions, radius, boxX, boxY, boxZ,
                        capacity, place.x, end, candidates);
                for (int k = place.x+count; k < end; k++)
                    candidates[i*capacity+k] = -1;
                if (lane == 0) {
                    candidateCounts[i] = candidateCount;
                    builtPositions[i] = positions[i];
                    if (candidateCount > capacity)
                        state[OVERFLOWED] = 1;
                }
            }
            SYNC_THREADS; // the lanes read each other's finds
        }
        else
            candidateCount = candidateCounts[i];
        candidateCount = (isBead ? min(candidateCount, capacity) : 0);
        // Each thread judges 32 candidates, keeps in a number's bits which are neighbors, and then puts those away.
        int found = 0;
        for (int start = lane; start-lane < capacity; start += 32*LANES) {
            unsigned int inside = 0;
            int count = 0, j;
            for (int k = 0; k < 32 && start+k*LANES < candidateCount; k++) {
                const mixed square = getDisplacement(i, start+k*LANES, capacity, candidates, positions, boxX, boxY, boxZ, &j).w;
                if (j >= 0 && square < (mixed) (CUTOFF*CUTOFF)) {
                    inside |= 1u<<k;
                    count++;
                }
            }
            const int2 place = placeFinds(count, counts);
            int target = i*capacity+found+place.x;
            for (int k = 0; k < 32 && start+k*LANES < candidateCount; k++)
                if (inside>>k&1) {
                    const mixed4 d = getDisplacement(i, start+k*LANES, capacity, candidates, positions, boxX, boxY, boxZ, &j);
                    const mixed length = sqrt(d.w);
                    const int coincide = (length < (mixed) COINCIDENCE);
                    const mixed distance = (coincide ? 0 : length), inverse = (coincide ? 0 : 1/length);
                    neighbors[target] = j;
                    edges[target] = make_real4(d.x*inverse, d.y*inverse, d.z*inverse, distance);
                    target++;
                }
            found += place.y;
        }
        if (isBead && lane == 0) {
            const mixed4 center = positions[i];
            if (center.x-center.x != 0 || center.y-center.y != 0 || center.z-center.z != 0)
                state[NOT_FINITE] = i+1;
            edgeCounts[i] = found;
        }
    }
}
