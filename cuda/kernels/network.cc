// What the generated kernels of the segments use, and the sum of the energies.

// CUDA's compiler needs to know for how many threads and blocks at a time the registers must suffice: left alone it spares
// them, and waits for one load before it issues the next.
// Loops over edges are unrolled for the same reason; compilers for CPUs cannot, and would warn.
#ifdef __CUDA_ARCH__
#define BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define UNROLL_EDGES _Pragma("unroll 4")
#else
#define BOUNDS(threads, blocks)
#define UNROLL_EDGES
#endif

#define TOTAL1(v) (v)
#define TOTAL2(v) ((v).x+(v).y)
#define SAME(i) (i)
#define TYPE_OF(i) (types[i])

// At t = 1 - u of a cell, from its beginning: the cubic splines that are nonzero there are OUTER(u), INNER(t), INNER(u),
// OUTER(t). The derivatives of those in t are OUTER_SLOPE and INNER_SLOPE.
#define OUTER(t) ((real) (1.0/6)*(t)*(t)*(t))
#define INNER(t) ((real) (2.0/3)-(t)*(t)*(1-(real) 0.5*(t)))
#define OUTER_SLOPE(t) ((real) 0.5*(t)*(t))
#define INNER_SLOPE(t) ((t)*((real) 1.5*(t)-2))

// Spherical harmonics Y of degree 1 and 2 of a direction, the sign that they get in the opposite one, and q·∇Y, where Y is
// a homogeneous polynomial; as in cpp/network/Kernels.cpp.
#define ROOT3 ((real) 1.7320508075688772935)
#define PARITY_1 ((real) -1)
#define PARITY_2 ((real) 1)
#define HARMONICS_1(r) {(r).x, (r).y, (r).z}
#define HARMONICS_2(r) \
    {ROOT3*(r).x*(r).y, ROOT3*(r).y*(r).z, ROOT3*(r).x*(r).z, (r).z*(r).z-(real) 0.5*((r).x*(r).x+(r).y*(r).y), \
     (real) 0.5*ROOT3*((r).x*(r).x-(r).y*(r).y)}
#define GRADIENT_X_1(r, q) q[0]
#define GRADIENT_Y_1(r, q) q[1]
#define GRADIENT_Z_1(r, q) q[2]
#define GRADIENT_X_2(r, q) (ROOT3*(r).y*q[0]+ROOT3*(r).z*q[2]+ROOT3*(r).x*q[4]-(r).x*q[3])
#define GRADIENT_Y_2(r, q) (ROOT3*(r).x*q[0]+ROOT3*(r).z*q[1]-ROOT3*(r).y*q[4]-(r).y*q[3])
#define GRADIENT_Z_2(r, q) (ROOT3*(r).y*q[1]+ROOT3*(r).x*q[2]+(real) 2*(r).z*q[3])

// Activations: the value and its derivative. OpenMM compiles with fast mathematics, in which CUDA's own tanh is right to
// three digits only; exp and log keep six.

DEVICE real2 activateTanh(real x) {
    const real e = exp(-2*fabs(x));
    const real y = (1-e)/(1+e);
    return make_real2(x < 0 ? -y : y, 1-y*y);
}

DEVICE real2 activateShiftedSoftplus(real x) {
    const real e = exp(-fabs(x));
    return make_real2(fmax(x, (real) 0)+log(1+e)-(real) 0.69314718055994531, (x < 0 ? e : (real) 1)/(1+e));
}

DEVICE real2 activateSilu(real x) {
    const real s = 1/(1+exp(-x));
    return make_real2(x*s, s*(1+x*(1-s)));
}

DEVICE real2 activateSquareRoot(real x) {
    const real y = sqrt(x+(real) 1e-8);
    return make_real2(y, (real) 0.5/y);
}

/** Energies of the replicas from those of the beads, in a fixed order. Every block takes whole replicas. */
KERNEL void sumEnergies(GLOBAL const real* RESTRICT beadEnergies, GLOBAL const int* RESTRICT state,
        GLOBAL mixed* RESTRICT replicaEnergies, GLOBAL mixed* RESTRICT energyBuffer) {
    LOCAL mixed partial[ENERGY_THREADS];
    for (int replica = GROUP_ID; replica < NUM_BEADS/BEADS_PER_REPLICA; replica += NUM_GROUPS) {
        mixed sum = 0;
        for (int i = LOCAL_ID; i < BEADS_PER_REPLICA; i += ENERGY_THREADS)
            sum += beadEnergies[replica*BEADS_PER_REPLICA+i];
        partial[LOCAL_ID] = sum;
        SYNC_THREADS;
        for (int step = ENERGY_THREADS/2; step > 0; step /= 2) {
            if (LOCAL_ID < step)
                partial[LOCAL_ID] += partial[LOCAL_ID+step];
            SYNC_THREADS;
        }
        if (LOCAL_ID == 0) {
            replicaEnergies[replica] = partial[0];
            if (!state[OVERFLOWED])
                energyBuffer[GLOBAL_ID] += partial[0];
        }
        SYNC_THREADS;
    }
}

/** sum[0 … 3] += four rows of x [rows, in] · four columns of a matrix [in, columns], numbers of columns in fours. */
DEVICE void addProduct(real4* sum, GLOBAL const real4* x, int in, GLOBAL const real4* matrix, int columns) {
#pragma unroll 4
    for (int k = 0; k < in; k++) {
        const real4 w0 = matrix[4*k*columns], w1 = matrix[(4*k+1)*columns], w2 = matrix[(4*k+2)*columns],
                w3 = matrix[(4*k+3)*columns];
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const real4 a = x[r*in+k];
            sum[r] += a.x*w0;
            sum[r] += a.y*w1;
            sum[r] += a.z*w2;
            sum[r] += a.w*w3;
        }
    }
}
