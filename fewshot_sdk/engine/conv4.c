/* Conv4's inner loop: forward, backward and update on one small mini-batch after another, on one or a few threads.
   conv4_second_order.c includes this file, is what is compiled, and differentiates through the steps.

   Activations are stored as [position][image][channel], so that at each output position a convolution is a sum
   over its taps of plain products (image x channel) (channel x filter): no patches are copied, and nothing is
   computed on padding. The backward pass is the same sum with the table of taps inverted.

   Products work on 32-bit units: a float, or a pair of neighbouring bfloat16 along the summed dimension,
   which one instruction multiplies and adds up in float32. Everything else is float32. Channel counts are
   padded with zeros to a multiple of LANES; the padding's gradients are zero, so it stays zero. */

#define _GNU_SOURCE /* for sched_getcpu and the CPU_* macros */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif
#if defined(_WIN32)
#define long long long /* it has 32 bits there */
#endif

#if defined(__AVX512F__)
enum { LANES = 16, REGISTERS = 24, WIDEST = 4 }; /* floats in a vector; vectors in a tile, and across a tile */
#elif defined(__AVX__)
enum { LANES = 8, REGISTERS = 12, WIDEST = 2 };
#elif defined(__x86_64__) /* 16 registers; others have 32 */
enum { LANES = 4, REGISTERS = 12, WIDEST = 2 };
#else
enum { LANES = 4, REGISTERS = 24, WIDEST = 4 };
#endif
enum { MOST = 24, LAYERS = 4, TAPS = 9 };

#define INLINE static inline __attribute__((always_inline))
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const vec *)p; }
INLINE void store(float *p, vec v) { *(vec *)p = v; }
INLINE vec all(float x) { return x - (vec){0}; }
INLINE vec where(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }

/* ---- products ---- */

typedef struct { const float *a, *b; } Term; /* a block of the left matrix and one of the right */
typedef struct {
    int depth;          /* number of units summed within a term */
    long row, col, wide; /* strides: A[r * row + k * col], B[k * wide + f] */
    int pairs;          /* units are pairs of bfloat16 */
} Layout;

INLINE vec multiply_add(vec sum, const float *a, vec b, int pairs) {
#if defined(__AVX512BF16__)
    if (pairs) return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)b, (__m512bh)_mm512_set1_ps(*a));
#endif
    (void)pairs;
    return sum + all(*a) * b;
}

/* Unrolled, sums stay in registers: Clang leaves those of its largest tiles in memory otherwise. */
INLINE void tile(const Term *terms, int n_terms, Layout at, int rows, int vectors, int pairs,
                 long a_at, long b_at, float *out, long out_row, int more) {
    vec sum[MOST];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++)
            sum[r * vectors + v] = more ? load(out + r * out_row + v * LANES) : (vec){0};
    for (int s = 0; s < n_terms; s++) {
        const float *a = terms[s].a + a_at, *b = terms[s].b + b_at;
        for (int k = 0; k < at.depth; k++, a += at.col, b += at.wide) {
            vec right[4];
#pragma GCC unroll 16
            for (int v = 0; v < vectors; v++) right[v] = load(b + v * LANES);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
                for (int v = 0; v < vectors; v++)
                    sum[r * vectors + v] = multiply_add(sum[r * vectors + v], a + r * at.row, right[v], pairs);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++) store(out + r * out_row + v * LANES, sum[r * vectors + v]);
}

#define CASE(R, V) \
    case R: \
        if (at.pairs) tile(terms, n_terms, at, R, V, 1, a_at, b_at, out, out_row, more); \
        else tile(terms, n_terms, at, R, V, 0, a_at, b_at, out, out_row, more); \
        break;

#define STRIP(NAME, CASES) \
    static void NAME(const Term *terms, int n_terms, Layout at, int rows, long a_at, long b_at, \
                     float *out, long out_row, int more) { \
        switch (rows) { CASES } \
    }
STRIP(strip4, CASE(1, 4) CASE(2, 4) CASE(3, 4) CASE(4, 4) CASE(5, 4) CASE(6, 4))
STRIP(strip2, CASE(1, 2) CASE(2, 2) CASE(3, 2) CASE(4, 2) CASE(5, 2) CASE(6, 2) CASE(7, 2) CASE(8, 2)
                 CASE(9, 2) CASE(10, 2) CASE(11, 2) CASE(12, 2))
STRIP(strip1, CASE(1, 1) CASE(2, 1) CASE(3, 1) CASE(4, 1) CASE(5, 1) CASE(6, 1) CASE(7, 1) CASE(8, 1)
                 CASE(9, 1) CASE(10, 1) CASE(11, 1) CASE(12, 1))

/* out (rows x cols) = the sum over terms of A B; with more, out += it */
static void product(const Term *terms, int n_terms, Layout at, int rows, int cols, float *out, long out_row, int more) {
    for (int col = 0; col < cols;) {
        int left = (cols - col) / LANES;
        int vectors = left >= 4 && WIDEST == 4 ? 4 : left >= 2 ? 2 : 1;
        int most = vectors == 1 ? 12 : REGISTERS / vectors;
        int strips = (rows + most - 1) / most;
        for (int i = 0; i < strips; i++) {
            int row = rows * i / strips, height = rows * (i + 1) / strips - row;
            float *o = out + row * out_row + col;
            if (vectors == 4) strip4(terms, n_terms, at, height, row * at.row, col, o, out_row, more);
            else if (vectors == 2) strip2(terms, n_terms, at, height, row * at.row, col, o, out_row, more);
            else strip1(terms, n_terms, at, height, row * at.row, col, o, out_row, more);
        }
        col += vectors * LANES;
    }
}

/* ---- units ---- */

INLINE uvec rounded(vec x) { /* to the nearest bfloat16, ties to even, in the low half */
    uvec bits = (uvec)x;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

/* Pairs of neighbouring rows: (groups x rows x cols) floats -> (groups x ceil(rows / 2) x cols) units. */
static void pair_rows(const float *in, long groups, int rows, int cols, float *out) {
    for (long g = 0; g < groups; g++, in += (long)rows * cols)
        for (int r = 0; r < rows; r += 2, out += cols)
            for (int c = 0; c < cols; c += LANES) {
                uvec low = rounded(load(in + (long)r * cols + c)), high = {0};
                if (r + 1 < rows) high = rounded(load(in + (long)(r + 1) * cols + c));
                store(out + c, (vec)(low | (high << 16)));
            }
}

/* Pairs of neighbouring columns: n floats, n even -> n / 2 units. */
static void pair_columns(const float *in, long n, float *out) {
    uint32_t *o = (uint32_t *)out;
    const uint32_t *bits = (const uint32_t *)in;
    for (long i = 0; i < n / 2; i++) {
        uint32_t a = bits[2 * i], b = bits[2 * i + 1];
        a = (a + 0x7fff + ((a >> 16) & 1)) >> 16;
        b = (b + 0x7fff + ((b >> 16) & 1)) & 0xffff0000u;
        o[i] = a | b;
    }
}

/* (groups x rows x cols) units -> (groups x cols x rows), all but groups multiples of 4. */
static void transpose(const float *restrict in, int groups, int rows, int cols, float *restrict out) {
    for (int g = 0; g < groups; g++, in += rows * cols, out += rows * cols)
        for (int r = 0; r < rows; r += 4)
            for (int c = 0; c < cols; c += 4)
                for (int k = 0; k < 4; k++)
                    for (int j = 0; j < 4; j++) out[(c + k) * rows + r + j] = in[(r + j) * cols + c + k];
}

/* ---- the network ---- */

typedef struct {
    int height, width, channels; /* of the images, uint8 */
    int filters;                 /* padded */
    int pool;                    /* 1: stride 1 and a 2 x 2 max-pool; 0: stride 2 */
    int ways;
    int pairs;                   /* products in bfloat16 */
    float epsilon;               /* of batch norm */
} Network;

typedef struct {
    int taps, rows;                  /* of the kernel: taps x rows x filters */
    int in_h, in_w, h, w, out_h, out_w; /* size before the convolution, after it, after the pool */
    long kernel, bias, gamma, beta;  /* offsets into the parameters */
} Layer;

static long lay_out(const Network *net, Layer layers[LAYERS]) {
    long at = 0;
    int h = net->height, w = net->width;
    for (int i = 0; i < LAYERS; i++) {
        Layer *l = &layers[i];
        l->taps = i ? TAPS : 1; /* the first layer's patches are copied: they are small */
        l->rows = i ? net->filters : (TAPS * net->channels + 1) / 2 * 2;
        l->out_h = (h + 1) / 2, l->out_w = (w + 1) / 2;
        l->in_h = h, l->in_w = w;
        l->h = net->pool ? h : l->out_h, l->w = net->pool ? w : l->out_w;
        h = l->out_h, w = l->out_w;
        l->kernel = at, at += (long)l->taps * l->rows * net->filters;
        l->bias = at, at += net->filters;
        l->gamma = at, at += net->filters;
        l->beta = at, at += net->filters;
    }
    return at;
}

int conv4_lanes(void) { return LANES; }

const char *conv4_instructions(void) {
#if defined(__AVX512BF16__)
    return "avx512_bf16";
#elif defined(__AVX512F__)
    return "avx512";
#elif defined(__AVX2__)
    return "avx2";
#elif defined(__SSE4_2__)
    return "sse4";
#elif defined(__ARM_NEON)
    return "neon";
#else
    return "portable";
#endif
}

#define WRITTEN(macro) #macro
#define VERSION(major, minor, patch) WRITTEN(major) "." WRITTEN(minor) "." WRITTEN(patch)

const char *conv4_compiler(void) {
#if defined(__clang__)
    return "clang " VERSION(__clang_major__, __clang_minor__, __clang_patchlevel__);
#else
    return "gcc " VERSION(__GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}

long conv4_parameters(const Network *net) {
    Layer layers[LAYERS];
    long at = lay_out(net, layers);
    return at + (long)net->ways * layers[3].out_h * layers[3].out_w * net->filters + net->ways;
}

typedef struct {
    float *x, *x_units;   /* input, as the left operand of the forward product */
    float *y, *z;         /* after the convolution; after norm, pool and ReLU */
    uint8_t *chosen;      /* the pool's argmax, 0 to 3 */
    float *mean, *scale;  /* scale: 1 / sqrt(var + epsilon) */
    float *g, *d;         /* gradients of the norm's output and of y; all layers share one buffer unless kept */
    int *table;           /* (positions, taps): input position, or -1 */
    int *turned;          /* (input positions, taps): output position, or -1 */
} Work;

typedef struct { char *at; } Arena;
static void *take(Arena *arena, long bytes) {
    char *p = arena->at;
    arena->at += (bytes + 63) / 64 * 64;
    return p;
}
#define TAKE(type, n) (type *)take(arena, sizeof(type) * (long)(n))

static int before(int size, int stride) { /* rows of padding before the first row; TensorFlow's "same" */
    int missing = ((size + stride - 1) / stride - 1) * stride + 3 - size;
    return missing > 0 ? missing / 2 : 0;
}

static long imax(long a, long b) { return a > b ? a : b; }
static long imin(long a, long b) { return a < b ? a : b; }

struct Group;

typedef struct {
    Network net;
    Layer layers[LAYERS];
    Work work[LAYERS];
    int n;
    int rank, n_threads; /* among the threads that share the work; see below */
    struct Group *group;
    float *pixels, *logits, *delta, *d, *d_units, *dx, *w_units, *w_turned, *x_pairs;
    Term *terms; /* a part for each thread */
    long n_terms;
    double *sums;
} Run;

/* Lays out the scratch memory for n images; with a NULL arena it only counts bytes. */
static void lay_out_scratch(Run *run, const Network *net, int n, int threads, Arena *arena) {
    run->net = *net;
    run->rank = 0, run->n_threads = 1, run->group = NULL;
    lay_out(net, run->layers);
    int F = net->filters;
    long biggest = 0, widest = 0, most = 0, kernel = 0;
    for (int i = 0; i < LAYERS; i++) {
        Layer *l = &run->layers[i];
        long positions = (long)l->h * l->w, inputs = i ? (long)l->in_h * l->in_w : positions;
        biggest = imax(biggest, positions * n * F);
        widest = imax(widest, inputs * ((n + 1) / 2) * imax(l->rows, LANES));
        most = imax(most, imax(positions, TAPS)), kernel = imax(kernel, (long)l->taps * l->rows * F);
    }
    run->pixels = TAKE(float, (long)n * net->height * net->width * net->channels);
    run->d = TAKE(float, biggest), run->dx = TAKE(float, biggest);
    run->d_units = net->pairs ? TAKE(float, biggest) : NULL;
    run->x_pairs = net->pairs ? TAKE(float, widest) : NULL;
    run->w_units = TAKE(float, kernel), run->w_turned = TAKE(float, kernel);
    run->n_terms = 2 * most;
    run->terms = TAKE(Term, threads * run->n_terms);
    run->sums = TAKE(double, 2 * F);
}

/* Lays out what n images leave for the backward pass, with keep also the gradients; the scratch memory must be for
   at least n images. real: fill in the tables, too. */
static void lay_out_traces(Run *run, int n, int keep, Arena *arena, int real) {
    const Network *net = &run->net;
    int F = net->filters;
    run->n = n;
    for (int i = 0; i < LAYERS; i++) {
        Layer *l = &run->layers[i];
        Work *k = &run->work[i];
        long positions = (long)l->h * l->w, inputs = i ? (long)l->in_h * l->in_w : positions;
        k->x = i ? run->work[i - 1].z : TAKE(float, inputs * n * l->rows);
        k->x_units = net->pairs ? TAKE(float, inputs * n * l->rows / 2) : k->x;
        k->y = TAKE(float, positions * n * F);
        k->z = TAKE(float, (long)l->out_h * l->out_w * n * F);
        k->chosen = net->pool ? TAKE(uint8_t, (long)l->out_h * l->out_w * n * F) : NULL;
        k->mean = TAKE(float, F), k->scale = TAKE(float, F);
        k->g = keep ? TAKE(float, positions * n * F) : run->d;
        k->d = keep ? TAKE(float, positions * n * F) : run->d;
        k->table = TAKE(int, positions * l->taps);
        k->turned = TAKE(int, inputs * l->taps);
        if (!real) continue;
        if (i == 0) {
            for (int p = 0; p < positions; p++) k->table[p] = k->turned[p] = p;
            continue;
        }
        int stride = net->pool ? 1 : 2, top = before(l->in_h, stride), left = before(l->in_w, stride);
        memset(k->turned, -1, sizeof(int) * inputs * TAPS);
        for (int p = 0; p < positions; p++)
            for (int t = 0; t < TAPS; t++) {
                int r = p / l->w * stride + t / 3 - top, c = p % l->w * stride + t % 3 - left;
                int q = r < 0 || c < 0 || r >= l->in_h || c >= l->in_w ? -1 : r * l->in_w + c;
                k->table[p * TAPS + t] = q;
                if (q >= 0) k->turned[q * TAPS + t] = p;
            }
    }
    run->logits = TAKE(float, n * net->ways), run->delta = TAKE(float, n * net->ways);
}

static void prepare(Run *run, const Network *net, int n, int threads, Arena *arena, int real) {
    lay_out_scratch(run, net, n, threads, arena);
    lay_out_traces(run, n, 0, arena, real);
}

long conv4_bytes(const Network *net, int n, int threads) {
    Run run;
    Arena arena = {0};
    prepare(&run, net, n, threads, &arena, 0);
    return (long)(intptr_t)arena.at;
}

/* ---- a group ----
   Threads that go through the same steps together. Each does its part of every loop, and they synchronize where one
   reads what another wrote. Every number is computed by a single thread, just as one thread alone would compute it:
   the bits do not depend on the number of threads. */

#define SPINS 200000 /* half a millisecond: longer than any wait while all threads run, shorter than a time slice */

struct Group {
    _Alignas(128) atomic_int size;
    _Alignas(128) atomic_int here;
    _Alignas(128) atomic_int meetings;
    _Alignas(128) pthread_mutex_t lock; /* for the threads that sleep, and the last to arrive */
    pthread_cond_t met;
};

#define OURS(i, n) \
    for (long i = (long)(n) * run->rank / run->n_threads; i < (long)(n) * (run->rank + 1) / run->n_threads; i++)

static void meet(const Run *run) {
    if (run->n_threads == 1) return;
    struct Group *group = run->group;
    int meeting = atomic_load(&group->meetings);
    if (atomic_fetch_add(&group->here, 1) == run->n_threads - 1) {
        atomic_store(&group->here, 0);
        pthread_mutex_lock(&group->lock);
        atomic_store(&group->meetings, meeting + 1);
        pthread_mutex_unlock(&group->lock);
        pthread_cond_broadcast(&group->met);
        return;
    }
    for (int waited = 0; waited < SPINS; waited++)
        if (atomic_load(&group->meetings) != meeting) return;
    pthread_mutex_lock(&group->lock); /* the other threads are not running: the machine is busy */
    while (atomic_load(&group->meetings) == meeting) pthread_cond_wait(&group->met, &group->lock);
    pthread_mutex_unlock(&group->lock);
}

/* The batch's pixels as floats, then the first layer's patches of them: work[0].x (position, image, tap x channel). */
static void read_images(Run *run, const uint8_t *images, const int64_t *batch, const float *values) {
    Layer *l = &run->layers[0];
    int n = run->n, C = run->net.channels, stride = run->net.pool ? 1 : 2;
    int top = before(l->in_h, stride), left = before(l->in_w, stride);
    long line = (long)l->in_w * C, area = l->in_h * line;
    OURS(m, n)
        for (long i = 0; i < area; i += C) {
            const uint8_t *seen = images + batch[m] * area + i;
            for (int k = 0; k < C; k++) run->pixels[m * area + i + k] = values[256 * k + seen[k]];
        }
    long across = (long)l->w * n * l->rows;
    meet(run);
    OURS(i, l->h) {
        float *out = run->work[0].x + i * across;
        memset(out, 0, sizeof(float) * across);
        for (int j = 0; j < l->w; j++) {
            int first = j * stride - left < 0 ? left - j * stride : 0; /* taps first to after - 1 lie on the image */
            int after = j * stride - left + 3 > l->in_w ? l->in_w - (j * stride - left) : 3;
            for (int m = 0; m < n; m++, out += l->rows)
                for (int t = 0; t < 3; t++) {
                    int r = i * stride + t - top;
                    if (r < 0 || r >= l->in_h) continue;
                    const float *from = run->pixels + m * area + r * line + (j * stride - left) * C;
                    for (int k = first * C; k < after * C; k++) out[3 * t * C + k] = from[k];
                }
        }
        if (run->net.pairs) pair_columns(run->work[0].x + i * across, across, run->work[0].x_units + i * across / 2);
    }
}

/* Offset in y of corner o (0 to 3) of image m's pooling window (a, b); negative if it is off the edge. */
INLINE long cell(const Layer *l, int n, int F, int a, int b, int o, int m) {
    int r = 2 * a + o / 2, c = 2 * b + o % 2;
    return r < l->h && c < l->w ? ((long)(r * l->w + c) * n + m) * F : -F;
}

/* y = x convolved with kernel, plus, unless x2 is NULL, x2 convolved with kernel2 */
static void convolve(Run *run, const int *table, int positions, int taps, int rows, int cols,
                     const float *x, const float *kernel, const float *x2, const float *kernel2, float *y) {
    int n = run->n;
    Layout at = {rows, rows, 1, cols, run->net.pairs};
    OURS(p, positions) {
        int n_terms = 0;
        for (int t = 0; t < taps; t++) {
            int q = table[p * taps + t];
            if (q < 0) continue;
            run->terms[n_terms++] = (Term){x + (long)q * n * rows, kernel + (long)t * rows * cols};
            if (x2) run->terms[n_terms++] = (Term){x2 + (long)q * n * rows, kernel2 + (long)t * rows * cols};
        }
        product(run->terms, n_terms, at, n, cols, y + p * n * cols, cols, 0);
    }
}

/* The kernel's gradient: for each tap the product (channel x image) (image x filter) of left and right, summed over
   positions; unless left2 is NULL, that of left2 and right2 is added. depth: units taken by a position's images. */
static void by_kernel(Run *run, const Layer *l, const int *table, int depth, const float *left, const float *right,
                      const float *left2, const float *right2, float *out) {
    int F = run->net.filters;
    long positions = (long)l->h * l->w, each = (long)depth * F;
    Layout at = {depth, 1, l->rows, F, run->net.pairs};
    long chunk = 10240 / (left2 ? 2 * each : each) + 1; /* as many positions as fit in the nearest caches */
    long all_rows = (long)l->taps * l->rows;
    long from = all_rows * run->rank / run->n_threads, to = all_rows * (run->rank + 1) / run->n_threads;
    for (long first = 0; first < positions; first += chunk)
        for (long t = from / l->rows; t * l->rows < to; t++) {
            long row = imax(from - t * l->rows, 0), after = imin(to - t * l->rows, l->rows); /* ours of this tap */
            int n_terms = 0;
            for (long p = first; p < first + chunk && p < positions; p++) {
                long q = table[p * l->taps + t];
                if (q < 0) continue;
                run->terms[n_terms++] = (Term){left + q * depth * l->rows + row, right + p * each};
                if (left2) run->terms[n_terms++] = (Term){left2 + q * depth * l->rows + row, right2 + p * each};
            }
            product(run->terms, n_terms, at, after - row, F, out + (t * l->rows + row) * F, F, first > 0);
        }
}

/* Mean and variance over rows of the channels f to f + LANES - 1; sums across blocks of n rows are in double. */
static void statistics(const Run *run, const float *y, long positions, int f, float *mean, float *var) {
    int F = run->net.filters, n = run->n;
    for (int pass = 0; pass < 2; pass++) {
        double sums[LANES] = {0};
        vec m = pass ? load(mean + f) : (vec){0};
        for (long p = 0; p < positions; p++) {
            vec sum = {0};
            for (int i = 0; i < n; i++) {
                vec v = load(y + (p * n + i) * F + f) - m;
                if (pass) v *= v;
                sum += v;
            }
            for (int k = 0; k < LANES; k++) sums[k] += sum[k];
        }
        for (int k = 0; k < LANES; k++) (pass ? var : mean)[f + k] = sums[k] / ((double)positions * n);
    }
}

/* z = relu(pool(slope y + shift)), slope and shift from the norm; passes NaN on, as PyTorch does. */
static void activate(Run *run, int i, const float *theta) {
    Layer *l = &run->layers[i];
    Work *k = &run->work[i];
    int F = run->net.filters, n = run->n;
    float slope[F], shift[F];
    for (int f = 0; f < F; f++) {
        slope[f] = theta[l->gamma + f] * k->scale[f];
        shift[f] = theta[l->beta + f] - k->mean[f] * slope[f];
    }
    if (!run->net.pool)
        OURS(row, (long)l->h * l->w * n)
            for (int f = 0; f < F; f += LANES) {
                vec v = load(k->y + row * F + f) * load(slope + f) + load(shift + f);
                store(k->z + row * F + f, where(v <= 0, (vec){0}, v));
            }
    else
        OURS(a, l->out_h)
            for (int b = 0; b < l->out_w; b++)
                for (int m = 0; m < n; m++)
                    for (int f = 0; f < F; f += LANES) {
                        vec best = all(-INFINITY);
                        ivec which = {0};
                        for (int o = 0; o < 4; o++) {
                            long at = cell(l, n, F, a, b, o, m) + f;
                            if (at < 0) continue;
                            vec v = load(k->y + at) * load(slope + f) + load(shift + f);
                            ivec more = ~(v <= best) & (best == best);
                            best = where(more, v, best);
                            which = (more & o) | (~more & which);
                        }
                        long at = ((long)(a * l->out_w + b) * n + m) * F + f;
                        store(k->z + at, where(best <= 0, (vec){0}, best));
                        *(bytes *)(k->chosen + at) = __builtin_convertvector(which, bytes);
                    }
}

static long head_at(const Run *run) { return run->layers[LAYERS - 1].beta + run->net.filters; }
static long head_size(const Run *run) { /* without the biases, which follow it */
    const Layer *last = &run->layers[LAYERS - 1];
    return (long)run->net.ways * last->out_h * last->out_w * run->net.filters;
}

/* total + the product of image m's features and the head's row c. */
static float along(const Run *run, const float *z, const float *head, int m, int c, float total) {
    int F = run->net.filters;
    long places = (long)run->layers[LAYERS - 1].out_h * run->layers[LAYERS - 1].out_w;
    vec sum = {0};
    for (long p = 0; p < places; p++)
        for (int f = 0; f < F; f += LANES)
            sum += load(z + (p * run->n + m) * F + f) * load(head + (c * places + p) * F + f);
    for (int k = 0; k < LANES; k++) total += sum[k];
    return total;
}

/* norms: means and variances, (LAYERS, 2, F); NULL uses the batch's own. found: unless NULL, receives those used. */
static void forward(Run *run, const float *theta, const float *norms, float *found) {
    int F = run->net.filters, n = run->n;
    float var[F];
    for (int i = 0; i < LAYERS; i++) {
        Layer *l = &run->layers[i];
        Work *k = &run->work[i];
        long positions = (long)l->h * l->w;
        const float *kernel = theta + l->kernel, *bias = theta + l->bias;
        int units = run->net.pairs ? l->rows / 2 : l->rows;
        if (run->net.pairs) {
            long each = (long)l->rows * F;
            OURS(t, l->taps) pair_rows(kernel + t * each, 1, l->rows, F, run->w_units + t * each / 2);
            kernel = run->w_units;
            if (i) OURS(q, l->in_h * l->in_w) pair_columns(k->x + q * n * F, n * F, k->x_units + q * n * F / 2);
        }
        meet(run);
        convolve(run, k->table, positions, l->taps, units, F, k->x_units, kernel, NULL, NULL, k->y);
        meet(run);
        /* The bias is left out of y: the norm subtracts it again, so it only shifts the mean. */
        OURS(v, F / LANES) {
            if (!norms) statistics(run, k->y, positions, v * LANES, k->mean, var);
            for (long f = v * LANES; f < (v + 1) * LANES; f++) {
                if (norms) k->mean[f] = norms[2 * i * F + f] - bias[f], var[f] = norms[(2 * i + 1) * F + f];
                k->scale[f] = 1 / sqrtf(var[f] + run->net.epsilon);
                if (found) found[2 * i * F + f] = k->mean[f] + bias[f], found[(2 * i + 1) * F + f] = var[f];
            }
        }
        meet(run);
        activate(run, i, theta);
        meet(run);
    }
    const float *head = theta + head_at(run), *bias = head + head_size(run);
    OURS(m, n)
        for (int c = 0; c < run->net.ways; c++)
            run->logits[m * run->net.ways + c] = along(run, run->work[3].z, head, m, c, bias[c]);
}

/* Mean cross-entropy; run->delta becomes the gradient, by the logits, of the batch's summed loss / divisor. */
static float cross_entropy(Run *run, const int64_t *labels, const int64_t *batch, int divisor) {
    int ways = run->net.ways, n = run->n;
    double loss = 0;
    for (int m = 0; m < n; m++) {
        const float *z = run->logits + m * ways;
        float *d = run->delta + m * ways, most = z[0], sum = 0;
        for (int c = 1; c < ways; c++) most = z[c] > most ? z[c] : most;
        for (int c = 0; c < ways; c++) sum += d[c] = expf(z[c] - most);
        int64_t label = labels[batch[m]];
        loss += logf(sum) + most - z[label];
        for (int c = 0; c < ways; c++) d[c] = (d[c] / sum - (c == label)) / divisor;
    }
    return loss / n;
}

/* Gradient of the head's rows from that of the logits; with more, it is added to out. */
static void by_rows(const Run *run, const float *delta, const float *z, float *out, int more) {
    int F = run->net.filters, n = run->n, ways = run->net.ways;
    long places = head_size(run) / ways / F;
    OURS(row, ways * places) {
        long c = row / places, p = row % places;
        for (int f = 0; f < F; f += LANES) {
            vec sum = more ? load(out + row * F + f) : (vec){0};
            for (int m = 0; m < n; m++) sum += delta[m * ways + c] * load(z + (p * n + m) * F + f);
            store(out + row * F + f, sum);
        }
    }
}

/* The same for the features. */
static void by_features(const Run *run, const float *delta, const float *head, float *out, int more) {
    int F = run->net.filters, n = run->n, ways = run->net.ways;
    long places = head_size(run) / ways / F;
    OURS(row, places * n) {
        long p = row / n, m = row % n;
        for (int f = 0; f < F; f += LANES) {
            vec sum = more ? load(out + row * F + f) : (vec){0};
            for (int c = 0; c < ways; c++) sum += delta[m * ways + c] * load(head + (c * places + p) * F + f);
            store(out + row * F + f, sum);
        }
    }
}

static void by_head_bias(const Run *run, const float *delta, float *out) {
    int ways = run->net.ways;
    OURS(c, ways) {
        out[c] = 0;
        for (int m = 0; m < run->n; m++) out[c] += delta[m * ways + c];
    }
}

/* Gradient of the norm's output: dz back through ReLU and pool. */
static void by_norm(const Run *run, int i, const float *dz, float *g) {
    const Layer *l = &run->layers[i];
    const Work *k = &run->work[i];
    int F = run->net.filters, n = run->n;
    if (!run->net.pool)
        OURS(row, (long)l->h * l->w * n)
            for (long at = row * F; at < (row + 1) * F; at += LANES)
                store(g + at, where(load(k->z + at) > 0, load(dz + at), (vec){0}));
    else
        OURS(a, l->out_h)
            for (int b = 0; b < l->out_w; b++)
                for (int m = 0; m < n; m++)
                    for (int f = 0; f < F; f += LANES) {
                        long at = ((long)(a * l->out_w + b) * n + m) * F + f;
                        ivec which = __builtin_convertvector(*(bytes *)(k->chosen + at), ivec);
                        vec passed = where(load(k->z + at) > 0, load(dz + at), (vec){0});
                        for (int o = 0; o < 4; o++) {
                            long to = cell(l, n, F, a, b, o, m) + f;
                            if (to >= 0) store(g + to, where(which == o, passed, (vec){0}));
                        }
                    }
}

static void backward_head(Run *run, const float *theta, float *grads) { /* run->dx: gradient of the features */
    long at = head_at(run);
    by_rows(run, run->delta, run->work[LAYERS - 1].z, grads + at, 0);
    by_features(run, run->delta, theta + at, run->dx, 0);
    by_head_bias(run, run->delta, grads + at + head_size(run));
}

static void backward_body(Run *run, const float *theta, float *grads) {
    int F = run->net.filters, n = run->n;
    float *dx = run->dx;
    for (int i = LAYERS - 1; i >= 0; i--) { /* dx: gradient of this layer's z */
        Layer *l = &run->layers[i];
        Work *k = &run->work[i];
        long positions = (long)l->h * l->w;
        const float *g = k->g;
        float *d = k->d;
        by_norm(run, i, dx, k->g);
        meet(run);
        double *sums = run->sums, count = (double)positions * n;
        OURS(v, F / LANES) {
            long f = v * LANES;
            vec mean = load(k->mean + f);
            for (int s = 0; s < LANES; s++) sums[f + s] = sums[F + f + s] = 0;
            for (long p = 0; p < positions; p++) {
                vec plain = {0}, scaled = {0};
                for (int m = 0; m < n; m++) {
                    long at = (p * n + m) * F + f;
                    plain += load(g + at);
                    scaled += load(g + at) * (load(k->y + at) - mean);
                }
                for (int s = 0; s < LANES; s++) sums[f + s] += plain[s], sums[F + f + s] += scaled[s];
            }
            for (long s = f; s < f + LANES; s++) {
                grads[l->beta + s] = sums[s];
                grads[l->gamma + s] = sums[F + s] * k->scale[s];
                grads[l->bias + s] = 0; /* the norm subtracts the bias again */
            }
        }
        meet(run);
        float slope[F], by_beta[F], by_y[F];
        for (int f = 0; f < F; f++) {
            slope[f] = theta[l->gamma + f] * k->scale[f];
            by_beta[f] = sums[f] / count;
            by_y[f] = sums[F + f] * k->scale[f] * k->scale[f] / count;
        }
        OURS(p, positions)
            for (long at = p * n * F; at < (p + 1) * n * F; at += F)
                for (int f = 0; f < F; f += LANES) {
                    vec centred = load(k->y + at + f) - load(k->mean + f);
                    vec rest = load(g + at + f) - load(by_beta + f) - centred * load(by_y + f);
                    store(d + at + f, load(slope + f) * rest);
                }
        long inputs = i ? (long)l->in_h * l->in_w : positions;
        const float *left = k->x, *right = d;
        int depth = n;
        if (run->net.pairs) {
            depth = (n + 1) / 2;
            if (i) OURS(q, inputs) pair_rows(k->x + q * n * F, 1, n, F, run->x_pairs + q * depth * F);
            else if (run->rank == 0) pair_rows(k->x, inputs, n, l->rows, run->x_pairs); /* it writes past its rows */
            OURS(p, positions) pair_rows(d + p * n * F, 1, n, F, run->d_units + p * depth * F);
            left = run->x_pairs, right = run->d_units;
        }
        meet(run);
        by_kernel(run, l, k->table, depth, left, right, NULL, NULL, grads + l->kernel);
        meet(run);
        if (i == 0) break;
        const float *units = d, *kernel = theta + l->kernel;
        int width = F;
        if (run->net.pairs) {
            width = F / 2;
            OURS(p, positions) pair_columns(d + p * n * F, n * F, run->d_units + p * n * width);
            OURS(t, TAPS) pair_columns(kernel + t * F * F, F * F, run->w_units + t * F * width);
            units = run->d_units, kernel = run->w_units;
        }
        OURS(t, TAPS) transpose(kernel + t * F * width, 1, F, width, run->w_turned + t * F * width);
        meet(run);
        convolve(run, k->turned, inputs, TAPS, width, F, units, run->w_turned, NULL, NULL, dx);
        meet(run);
    }
}

typedef struct {
    int adam, divisor; /* divisor: of a batch's summed losses */
    double rate, beta2, epsilon;
} Rule;

void conv4_predict(const Network *net, const float *theta, const uint8_t *images, const int64_t *rows, int n,
                   const float *values, const float *norms, float *found, float *logits, char *memory) {
    Arena arena = {memory};
    Run run;
    prepare(&run, net, n, 1, &arena, 1);
    read_images(&run, images, rows, values);
    forward(&run, theta, norms, found);
    memcpy(logits, run.logits, sizeof(float) * n * net->ways);
}

typedef struct { /* the arguments of a thread */
    Run run;
    const Rule *rule;
    float *theta, *moments, *grads, *losses;
    const uint8_t *images;
    const int64_t *labels, *batches;
    const float *values;
    int64_t updates;
    int steps;
} Job;

static void *take_steps(void *told) {
    Job *job = told;
    Run *run = &job->run;
    while (!(run->n_threads = atomic_load(&run->group->size))) sched_yield();
    long size = conv4_parameters(&run->net);
    float *theta = job->theta, *moments = job->moments, *grads = job->grads;
    float keep = job->rule->beta2, add = 1 - job->rule->beta2, rate = job->rule->rate, epsilon = job->rule->epsilon;
    for (int step = 0; step < job->steps; step++) {
        const int64_t *batch = job->batches + (long)step * run->n;
        read_images(run, job->images, batch, job->values);
        forward(run, theta, NULL, NULL);
        meet(run);
        if (run->rank == 0) job->losses[step] = cross_entropy(run, job->labels, batch, job->rule->divisor);
        meet(run);
        backward_head(run, theta, grads);
        meet(run);
        backward_body(run, theta, grads);
        float unbias = sqrt(1 - pow(job->rule->beta2, job->updates + step + 1));
        OURS(i, size) {
            if (job->rule->adam) {
                moments[i] = keep * moments[i] + add * grads[i] * grads[i];
                theta[i] -= rate * grads[i] / (sqrtf(moments[i]) / unbias + epsilon);
            } else theta[i] -= rate * grads[i];
        }
        meet(run);
    }
    return NULL;
}

/* Keeps new threads off this core: a thread often starts on its creator's core and waits there for the next tick. */
static void elsewhere(pthread_attr_t *attributes) {
#if defined(__GLIBC__)
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores)) return;
    CPU_CLR(sched_getcpu(), &cores);
    if (CPU_COUNT(&cores)) pthread_attr_setaffinity_np(attributes, sizeof cores, &cores);
#else
    (void)attributes;
#endif
}

/* threads: how many may share the work; memory: conv4_bytes for that number. */
void conv4_fine_tune(const Network *net, float *theta, float *moments, int64_t updates, const Rule *rule,
                     const uint8_t *images, const int64_t *labels, const int64_t *batches, int n, int steps,
                     const float *values, float *grads, float *losses, int threads, char *memory) {
    Arena arena = {memory};
    struct Group group = {.lock = PTHREAD_MUTEX_INITIALIZER, .met = PTHREAD_COND_INITIALIZER};
    pthread_t others[threads];
    Job jobs[threads];
    jobs[0] = (Job){{.n = 0}, rule, theta, moments, grads, losses, images, labels, batches, values, updates, steps};
    prepare(&jobs[0].run, net, n, threads, &arena, 1);
    jobs[0].run.group = &group;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (threads > 1) elsewhere(&attributes);
    int size = 1;
    for (; size < threads; size++) {
        jobs[size] = jobs[0];
        jobs[size].run.rank = size, jobs[size].run.terms += size * jobs[0].run.n_terms;
        if (pthread_create(&others[size], &attributes, take_steps, &jobs[size])) break; /* then with fewer */
    }
    atomic_store(&group.size, size);
    take_steps(&jobs[0]);
    for (int i = 1; i < size; i++) pthread_join(others[i], NULL);
    pthread_attr_destroy(&attributes);
}
