// One convolution y_i = Σ_j x_j ∘ W(r_ij) and its adjoint. 32 lanes take one bead through its edges, each lane for one or
// two channels of one slice of them. Slices follow one another, so that at any time all beads read the same slice of the
// table, most of which then stays in the first-level cache; a block's beads are near each other, so that they have
// neighbors in common.
//
// A filter is a cubic spline: the sum of four rows of the table, from that of the edge's cell on.

KERNEL void BOUNDS(CONVOLUTION_THREADS, 6) convolve$NAME$(int capacity, GLOBAL real* RESTRICT workspace,
        GLOBAL const real* RESTRICT parameters, GLOBAL const int* RESTRICT types, GLOBAL const int* RESTRICT order,
        GLOBAL const int* RESTRICT neighbors, GLOBAL const real4* RESTRICT edges,
        GLOBAL const int* RESTRICT edgeCounts) {
    const int lane = LOCAL_ID%32;
    GLOBAL const $VALUE$* x = (GLOBAL const $VALUE$*) ($INPUT$);
    GLOBAL $VALUE$* y = (GLOBAL $VALUE$*) ($OUTPUT$);
    for (int unit = GLOBAL_ID/32; unit < NUM_BEADS*$SLICES$; unit += GLOBAL_SIZE/32) {
        const int slice = unit/NUM_BEADS, i = order[unit-slice*NUM_BEADS], column = slice*32+lane;
        GLOBAL const $VALUE$* table = (GLOBAL const $VALUE$*) (parameters+$TABLE$)+slice*($CELLS$+3)*32+lane;
        $VALUE$ sum[$OUT_COMPONENTS$];
        for (int d = 0; d < $OUT_COMPONENTS$; d++)
            sum[d] = $ZERO$;
        const int end = i*capacity+edgeCounts[i];
        UNROLL_EDGES
        for (int e = i*capacity; e < end; e++) {
            const real4 edge = edges[e];
            const int row = $ROW$(neighbors[e]);
            const real place = edge.w*(real) $CELLS_PER_LENGTH$;
            const int cell = min((int) place, $CELLS$-1);
            const real t = place-cell, u = 1-t;
            GLOBAL const $VALUE$* rows = table+cell*32;
            const $VALUE$ filter = OUTER(u)*rows[0]+INNER(t)*rows[32]+INNER(u)*rows[64]+OUTER(t)*rows[96];
#if $DEGREE$
            const $VALUE$ message = filter*x[row*$COLUMNS$+column];
            const real harmonics[$OUT_COMPONENTS$] = HARMONICS_$DEGREE$(edge);
            for (int d = 0; d < $OUT_COMPONENTS$; d++)
                sum[d] += harmonics[d]*message;
#else
            for (int d = 0; d < $OUT_COMPONENTS$; d++)
                sum[d] += filter*x[(row*$IN_COMPONENTS$+d)*$COLUMNS$+column];
#endif
        }
        for (int d = 0; d < $OUT_COMPONENTS$; d++)
            y[(i*$OUT_COMPONENTS$+d)*$COLUMNS$+column] = sum[d];
    }
}

KERNEL void BOUNDS(CONVOLUTION_THREADS, 6) convolveAdjoint$NAME$(int capacity, GLOBAL real* RESTRICT workspace,
        GLOBAL const real* RESTRICT parameters, GLOBAL const int* RESTRICT types, GLOBAL const int* RESTRICT order,
        GLOBAL const int* RESTRICT neighbors, GLOBAL const real4* RESTRICT edges,
        GLOBAL const int* RESTRICT edgeCounts, GLOBAL const int* RESTRICT slots,
        GLOBAL const int* RESTRICT state, GLOBAL mm_ulong* RESTRICT forceBuffers) {
    LOCAL real partial[3*CONVOLUTION_THREADS];
    const int lane = LOCAL_ID%32;
    GLOBAL const $VALUE$* x = (GLOBAL const $VALUE$*) ($INPUT$);
    GLOBAL const $VALUE$* yGradient = (GLOBAL const $VALUE$*) ($OUTPUT_GRADIENT$);
    const int units = NUM_BEADS*$SLICES$, unitsPerBlock = CONVOLUTION_THREADS/32;
    for (int first = GROUP_ID*unitsPerBlock; first < units; first += NUM_GROUPS*unitsPerBlock) {
        const int unit = first+LOCAL_ID/32;
        const int slice = unit/NUM_BEADS, i = order[unit-slice*NUM_BEADS], column = slice*32+lane;
        $VALUE$ fx = $ZERO$, fy = $ZERO$, fz = $ZERO$;
        if (unit < units) {
            GLOBAL const $VALUE$* table = (GLOBAL const $VALUE$*) (parameters+$TABLE$)+slice*($CELLS$+3)*32+lane;
            $VALUE$ xi[$IN_COMPONENTS$], gi[$OUT_COMPONENTS$], sum[$IN_COMPONENTS$];
            for (int d = 0; d < $IN_COMPONENTS$; d++) {
                xi[d] = x[($ROW$(i)*$IN_COMPONENTS$+d)*$COLUMNS$+column];
                sum[d] = $ZERO$;
            }
            for (int d = 0; d < $OUT_COMPONENTS$; d++)
                gi[d] = yGradient[(i*$OUT_COMPONENTS$+d)*$COLUMNS$+column];
            const int end = i*capacity+edgeCounts[i];
            UNROLL_EDGES
            for (int e = i*capacity; e < end; e++) {
                const real4 edge = edges[e];
                const int j = neighbors[e], row = $ROW$(j);
                const real place = edge.w*(real) $CELLS_PER_LENGTH$;
                const int cell = min((int) place, $CELLS$-1);
                const real t = place-cell, u = 1-t;
                GLOBAL const $VALUE$* rows = table+cell*32;
                const $VALUE$ c0 = rows[0], c1 = rows[32], c2 = rows[64], c3 = rows[96];
                const $VALUE$ slope = (real) $CELLS_PER_LENGTH$*
                        (INNER_SLOPE(t)*c1-INNER_SLOPE(u)*c2+OUTER_SLOPE(t)*c3-OUTER_SLOPE(u)*c0);
#if $HAS_INPUT_GRADIENT$ || $DEGREE$
                const $VALUE$ filter = OUTER(u)*c0+INNER(t)*c1+INNER(u)*c2+OUTER(t)*c3;
#endif
#if $DEGREE$
                // With harmonics Y of degree l, q = ∂E/∂Y/W and a = Y·q: ∂E/∂r_ij = r̂ (W' - l W/r) a + q·∇Y W/r, where
                // Y is a homogeneous polynomial of r̂. Seen from j, Y is the same but for the sign (-1)^l.
                const $VALUE$ xj = x[row*$COLUMNS$+column];
                const real harmonics[$OUT_COMPONENTS$] = HARMONICS_$DEGREE$(edge);
                $VALUE$ q[$OUT_COMPONENTS$], a = $ZERO$, fromJ = $ZERO$;
                for (int d = 0; d < $OUT_COMPONENTS$; d++) {
                    const $VALUE$ gj = yGradient[(j*$OUT_COMPONENTS$+d)*$COLUMNS$+column];
                    q[d] = xj*gi[d]+PARITY_$DEGREE$*xi[0]*gj;
                    a += harmonics[d]*q[d];
                    fromJ += harmonics[d]*gj;
                }
                const $VALUE$ perLength = (edge.w == 0 ? 0 : 1/edge.w)*filter;  // beads that coincide have no direction
                const $VALUE$ radial = (slope-(real) $DEGREE$*perLength)*a;
                fx += edge.x*radial+perLength*(GRADIENT_X_$DEGREE$(edge, q));
                fy += edge.y*radial+perLength*(GRADIENT_Y_$DEGREE$(edge, q));
                fz += edge.z*radial+perLength*(GRADIENT_Z_$DEGREE$(edge, q));
#if $HAS_INPUT_GRADIENT$
                sum[0] += PARITY_$DEGREE$*filter*fromJ;
#endif
#else
                $VALUE$ product = $ZERO$;
                for (int d = 0; d < $IN_COMPONENTS$; d++) {
                    const $VALUE$ gj = yGradient[(j*$OUT_COMPONENTS$+d)*$COLUMNS$+column];
                    product += x[(row*$IN_COMPONENTS$+d)*$COLUMNS$+column]*gi[d]+xi[d]*gj;
#if $HAS_INPUT_GRADIENT$
                    sum[d] += filter*gj;
#endif
                }
                const $VALUE$ radial = slope*product;
                fx += edge.x*radial;
                fy += edge.y*radial;
                fz += edge.z*radial;
#endif
            }
#if $HAS_INPUT_GRADIENT$
            GLOBAL $VALUE$* xGradient = (GLOBAL $VALUE$*) ($INPUT_GRADIENT$);
            for (int d = 0; d < $IN_COMPONENTS$; d++)
                xGradient[(i*$IN_COMPONENTS$+d)*$COLUMNS$+column] = sum[d];
#endif
        }
        // Sum over the lanes, in a fixed order.
        partial[LOCAL_ID] = $TOTAL$(fx);
        partial[LOCAL_ID+CONVOLUTION_THREADS] = $TOTAL$(fy);
        partial[LOCAL_ID+2*CONVOLUTION_THREADS] = $TOTAL$(fz);
        SYNC_WARPS;
        for (int step = 16; step > 0; step /= 2) {
            if (lane < step)
                for (int d = 0; d < 3; d++)
                    partial[LOCAL_ID+d*CONVOLUTION_THREADS] += partial[LOCAL_ID+d*CONVOLUTION_THREADS+step];
            SYNC_WARPS;
        }
        // Fixed-point numbers: the order in which they are added does not matter.
        if (lane < 3 && unit < units && !state[OVERFLOWED])
            ATOMIC_ADD(&forceBuffers[slots[i]+lane*PADDED_NUM_ATOMS],
                    (mm_ulong) realToFixedPoint(partial[LOCAL_ID-lane+lane*CONVOLUTION_THREADS]));
        SYNC_WARPS;
    }
}
