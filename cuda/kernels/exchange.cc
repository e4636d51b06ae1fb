// Between the beads' arrays and tensors of another library on the same device, which are known by their addresses.

KERNEL void exportPositions(mm_ulong address, GLOBAL const mixed4* RESTRICT positions) {
    GLOBAL mixed* tensor = (GLOBAL mixed*) address;
    for (int i = GLOBAL_ID; i < NUM_BEADS; i += GLOBAL_SIZE) {
        const mixed4 position = positions[i];
        tensor[3*i] = position.x;
        tensor[3*i+1] = position.y;
        tensor[3*i+2] = position.z;
    }
}

/** How many pairs a bead has with beads after it. */
KERNEL void countPairs(int capacity, GLOBAL const int* RESTRICT edgeCounts, GLOBAL const int* RESTRICT neighbors,
        GLOBAL int* RESTRICT pairCounts) {
    for (int i = GLOBAL_ID; i < NUM_BEADS; i += GLOBAL_SIZE) {
        int count = 0;
        for (int k = 0; k < edgeCounts[i]; k++)
            if (neighbors[i*capacity+k] > i)
                count++;
        pairCounts[i] = count;
    }
}

/** Counts become the place of each bead's first pair. Runs as a single block of threads. */
KERNEL void placePairs(GLOBAL int* RESTRICT pairCounts, GLOBAL int* RESTRICT numPairs) {
    LOCAL int sums[SUM_THREADS+1];
    // Each thread adds up a stretch of beads, one thread the stretches.
    const int stretch = (NUM_BEADS+SUM_THREADS-1)/SUM_THREADS;
    const int begin = min((int) LOCAL_ID*stretch, NUM_BEADS), end = min(begin+stretch, NUM_BEADS);
    int sum = 0;
    for (int i = begin; i < end; i++)
        sum += pairCounts[i];
    sums[LOCAL_ID+1] = sum;
    SYNC_THREADS;
    if (LOCAL_ID == 0) {
        sums[0] = 0;
        for (int k = 0; k < SUM_THREADS; k++)
            sums[k+1] += sums[k];
        numPairs[0] = sums[SUM_THREADS];
    }
    SYNC_THREADS;
    sum = sums[LOCAL_ID];
    for (int i = begin; i < end; i++) {
        const int count = pairCounts[i];
        pairCounts[i] = sum;
        sum += count;
    }
}

/** Every pair once, in the order of its first bead. */
KERNEL void exportPairs(mm_ulong rowAddress, mm_ulong columnAddress, int room, int capacity,
        GLOBAL const int* RESTRICT edgeCounts, GLOBAL const int* RESTRICT neighbors,
        GLOBAL const int* RESTRICT firstPairs) {
    GLOBAL mm_long* rows = (GLOBAL mm_long*) rowAddress;
    GLOBAL mm_long* columns = (GLOBAL mm_long*) columnAddress;
    for (int i = GLOBAL_ID; i < NUM_BEADS; i += GLOBAL_SIZE) {
        int place = firstPairs[i];
        for (int k = 0; k < edgeCounts[i]; k++) {
            const int j = neighbors[i*capacity+k];
            if (j > i && place < room) {
                rows[place] = i;
                columns[place] = j;
                place++;
            }
        }
    }
}

KERNEL void addForces(mm_ulong address, GLOBAL const int* RESTRICT slots, GLOBAL mm_ulong* RESTRICT forceBuffers) {
    GLOBAL const mixed* forces = (GLOBAL const mixed*) address;
    for (int i = GLOBAL_ID; i < 3*NUM_BEADS; i += GLOBAL_SIZE)
        ATOMIC_ADD(&forceBuffers[slots[i/3]+i%3*PADDED_NUM_ATOMS],
                (mm_ulong) (mm_long) (forces[i]*(mixed) 0x100000000));
}
