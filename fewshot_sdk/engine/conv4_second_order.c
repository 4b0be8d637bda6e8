/* The meta-gradient of a last loss through Conv4's inner steps, with second derivatives; float32.

   Each step keeps what it computed. Back through a step, the gradient v becomes v - H (rates v), where H u, the step's
   Hessian times a direction (`way`), is the derivative of the step's gradient along u: each line of `forward` and
   `backward` is differentiated along u, and the derivatives are named with a t (tangent) in front. If a gradient's
   products cost three units, those of H u cost six: each product becomes two, whose terms are summed together.
   Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian"; Finn et al. 2017, Algorithm 1. */

#include "conv4.c"

typedef struct {
    float *ty[LAYERS], *tz[LAYERS];
    float *tmean[LAYERS], *with_y[LAYERS]; /* mean of ty and its covariance with y, by channel */
    float *tlogits, *tdelta, *td, *tdz, *turned;
} Tangents;

typedef struct {
    Run *steps, last;
    Tangents along;
    float *thetas, *grads, *way, *bent; /* (steps + 1, size), (steps, size), (size,), (size,) */
} Trail;

static void lay_out_tangents(Tangents *t, const Run *run, Arena *arena) {
    int F = run->net.filters, n = run->n;
    long biggest = 0, kernel = 0;
    for (int i = 0; i < LAYERS; i++) {
        const Layer *l = &run->layers[i];
        long here = (long)l->h * l->w * n * F;
        t->ty[i] = TAKE(float, here), t->tz[i] = TAKE(float, (long)l->out_h * l->out_w * n * F);
        t->tmean[i] = TAKE(float, F), t->with_y[i] = TAKE(float, F);
        biggest = imax(biggest, here), kernel = imax(kernel, (long)l->taps * l->rows * F);
    }
    t->tlogits = TAKE(float, n * run->net.ways), t->tdelta = TAKE(float, n * run->net.ways);
    t->td = TAKE(float, biggest), t->tdz = TAKE(float, biggest), t->turned = TAKE(float, kernel);
}

static void lay_out_trail(Trail *trail, const Network *net, int n, int steps, int n_last, int deep, Arena *arena, int real) {
    Run shared, counted;
    long size = conv4_parameters(net);
    lay_out_scratch(&shared, net, imax(n, n_last), 1, arena);
    trail->steps = TAKE(Run, steps);
    for (int k = 0; k < steps; k++) {
        Run *run = real ? &trail->steps[k] : &counted;
        *run = shared;
        lay_out_traces(run, n, deep, arena, real);
    }
    trail->last = shared;
    lay_out_traces(&trail->last, n_last, 0, arena, real);
    shared.n = n;
    lay_out_tangents(&trail->along, &shared, arena);
    trail->thetas = TAKE(float, (steps + 1) * size), trail->grads = TAKE(float, steps * size);
    trail->way = TAKE(float, size), trail->bent = TAKE(float, size);
}

long conv4_gradient_bytes(const Network *net, int n, int steps, int n_last, int deep) {
    Trail trail;
    Arena arena = {0};
    lay_out_trail(&trail, net, n, steps, n_last, deep, &arena, 0);
    return (long)(intptr_t)arena.at;
}

/* Mean of ty and its covariance with y; sums across blocks of n rows are in double. */
static void tangent_statistics(Run *run, int i, const float *ty, float *tmean, float *with_y) {
    const Layer *l = &run->layers[i];
    const Work *k = &run->work[i];
    int F = run->net.filters, n = run->n;
    long positions = (long)l->h * l->w;
    double *sums = run->sums, count = (double)positions * n;
    for (int f = 0; f < 2 * F; f++) sums[f] = 0;
    for (long p = 0; p < positions; p++)
        for (int f = 0; f < F; f += LANES) {
            vec plain = {0}, scaled = {0}, mean = load(k->mean + f);
            for (int m = 0; m < n; m++) {
                vec v = load(ty + (p * n + m) * F + f);
                plain += v;
                scaled += v * (load(k->y + (p * n + m) * F + f) - mean);
            }
            for (int s = 0; s < LANES; s++) sums[f + s] += plain[s], sums[F + f + s] += scaled[s];
        }
    for (int f = 0; f < F; f++) tmean[f] = sums[f] / count, with_y[f] = sums[F + f] / count;
}

/* tz, through the norm and through pool and ReLU with the choices of the forward pass:
   scale' = -scale^3 with_y,  norm' = gamma (scale (ty - tmean) + scale' (y - mean)) + tgamma scale (y - mean) + tbeta */
static void tangent_activate(Run *run, int i, const float *theta, const float *way, const Tangents *t) {
    const Layer *l = &run->layers[i];
    const Work *k = &run->work[i];
    int F = run->net.filters, n = run->n;
    float by_ty[F], by_y[F], shift[F], *ty = t->ty[i], *tz = t->tz[i];
    for (int f = 0; f < F; f++) {
        float s = k->scale[f], gamma = theta[l->gamma + f];
        by_ty[f] = gamma * s;
        by_y[f] = way[l->gamma + f] * s - gamma * s * s * s * t->with_y[i][f];
        shift[f] = way[l->beta + f] - by_ty[f] * t->tmean[i][f] - by_y[f] * k->mean[f];
    }
    for (int a = 0; a < l->out_h; a++)
        for (int b = 0; b < l->out_w; b++)
            for (int m = 0; m < n; m++)
                for (int f = 0; f < F; f += LANES) {
                    long at = ((long)(a * l->out_w + b) * n + m) * F + f;
                    vec v = {0};
                    if (!run->net.pool) v = load(ty + at) * load(by_ty + f) + load(k->y + at) * load(by_y + f);
                    else {
                        ivec which = __builtin_convertvector(*(bytes *)(k->chosen + at), ivec);
                        for (int o = 0; o < 4; o++) {
                            long from = cell(l, n, F, a, b, o, m) + f;
                            if (from < 0) continue;
                            vec u = load(ty + from) * load(by_ty + f) + load(k->y + from) * load(by_y + f);
                            v = where(which == o, u, v);
                        }
                    }
                    store(tz + at, where(load(k->z + at) > 0, v + load(shift + f), (vec){0}));
                }
}

/* td, from tg, the tangent of the norm's output gradient, and the tangents of gamma's and beta's gradients. With
   h = scale (y - mean), th = scale (ty - tmean) - scale^3 with_y (y - mean), and means over the channel:
   d = gamma scale (g - mean g - h mean(g h)), so
   td = (gamma scale)' (g - mean g - h mean(g h)) + gamma scale (tg - mean tg - th mean(g h) - h mean(tg h + g th)) */
static void tangent_by_norm(Run *run, int i, const float *theta, const float *grads, const float *way,
                            const Tangents *t, float *bent) {
    const Layer *l = &run->layers[i];
    const Work *k = &run->work[i];
    int F = run->net.filters, n = run->n;
    long positions = (long)l->h * l->w;
    double *sums = run->sums, count = (double)positions * n;
    float *td = t->td, *ty = t->ty[i];
    for (int f = 0; f < 2 * F; f++) sums[f] = 0;
    for (long p = 0; p < positions; p++)
        for (int f = 0; f < F; f += LANES) {
            vec plain = {0}, scaled = {0}, mean = load(k->mean + f), tmean = load(t->tmean[i] + f);
            for (int m = 0; m < n; m++) {
                long at = (p * n + m) * F + f;
                vec tg = load(td + at);
                plain += tg;
                scaled += tg * (load(k->y + at) - mean) + load(k->g + at) * (load(ty + at) - tmean);
            }
            for (int s = 0; s < LANES; s++) sums[f + s] += plain[s], sums[F + f + s] += scaled[s];
        }
    float by_g[F], by_tg[F], by_y[F], by_ty[F], shift[F];
    for (int f = 0; f < F; f++) {
        float s = k->scale[f], gamma = theta[l->gamma + f], cov = t->with_y[i][f];
        float mean_g = grads[l->beta + f] / count, mean_gh = grads[l->gamma + f] / count;
        float mean_tg = sums[f] / count, by_gamma = s * sums[F + f] - s * s * cov * grads[l->gamma + f];
        bent[l->beta + f] = sums[f];
        bent[l->gamma + f] = by_gamma;
        bent[l->bias + f] = 0; /* the norm subtracts the bias again */
        by_g[f] = way[l->gamma + f] * s - gamma * s * s * s * cov;
        by_tg[f] = gamma * s;
        by_ty[f] = -by_tg[f] * mean_gh * s;
        by_y[f] = s * (by_tg[f] * (mean_gh * s * s * cov - by_gamma / (float)count) - by_g[f] * mean_gh);
        shift[f] = -by_g[f] * mean_g - by_tg[f] * mean_tg - by_ty[f] * t->tmean[i][f] - by_y[f] * k->mean[f];
    }
    for (long at = 0; at < positions * n * F; at += F)
        for (int f = 0; f < F; f += LANES) {
            vec v = load(shift + f) + load(by_g + f) * load(k->g + at + f) + load(by_tg + f) * load(td + at + f);
            store(td + at + f, v + load(by_y + f) * load(k->y + at + f) + load(by_ty + f) * load(ty + at + f));
        }
}

/* bent = H way for one step's loss; grads: its gradient. deep: way is not 0 outside the head. */
static void bend(Run *run, const Tangents *t, const float *theta, const float *grads, const int64_t *labels,
                 const int64_t *batch, const float *way, int deep, float *bent) {
    int F = run->net.filters, n = run->n, ways = run->net.ways;
    for (int i = 0; deep && i < LAYERS; i++) {
        Layer *l = &run->layers[i];
        Work *k = &run->work[i];
        int positions = l->h * l->w;
        if (i) convolve(run, k->table, positions, TAPS, F, F, t->tz[i - 1], theta + l->kernel, k->x, way + l->kernel, t->ty[i]);
        else convolve(run, k->table, positions, 1, l->rows, F, k->x, way + l->kernel, NULL, NULL, t->ty[i]);
        tangent_statistics(run, i, t->ty[i], t->tmean[i], t->with_y[i]);
        tangent_activate(run, i, theta, way, t);
    }
    long at = head_at(run), bias = at + head_size(run);
    const float *z = run->work[LAYERS - 1].z, *tz = t->tz[LAYERS - 1];
    for (int m = 0; m < n; m++) {
        const float *delta = run->delta + m * ways;
        float *tl = t->tlogits + m * ways, *td = t->tdelta + m * ways, mean = 0;
        int64_t label = labels[batch[m]];
        for (int c = 0; c < ways; c++) {
            tl[c] = along(run, z, way + at, m, c, way[bias + c]);
            if (deep) tl[c] = along(run, tz, theta + at, m, c, tl[c]);
            td[c] = delta[c] * n + (c == label); /* the softmax */
            mean += td[c] * tl[c];
        }
        for (int c = 0; c < ways; c++) td[c] *= (tl[c] - mean) / n;
    }
    by_rows(run, t->tdelta, z, bent + at, 0);
    by_head_bias(run, t->tdelta, bent + bias);
    float *tdz = deep ? t->tdz : run->dx;
    by_features(run, t->tdelta, theta + at, tdz, 0);
    by_features(run, run->delta, way + at, tdz, 1);
    if (!deep) { /* nothing before the logits changes, only their gradient: its tangent goes back as it did */
        backward_body(run, theta, bent);
        return;
    }
    by_rows(run, run->delta, tz, bent + at, 1);
    for (int i = LAYERS - 1; i >= 0; i--) {
        Layer *l = &run->layers[i];
        Work *k = &run->work[i];
        by_norm(run, i, tdz, t->td);
        tangent_by_norm(run, i, theta, grads, way, t, bent);
        by_kernel(run, l, k->table, n, k->x, t->td, i ? t->tz[i - 1] : NULL, k->d, bent + l->kernel);
        if (i == 0) break;
        transpose(theta + l->kernel, TAPS, F, F, run->w_turned);
        transpose(way + l->kernel, TAPS, F, F, t->turned);
        convolve(run, k->turned, l->in_h * l->in_w, TAPS, F, F, t->td, run->w_turned, k->d, t->turned, tdz);
    }
}

/* slope: gradient of the loss of the batch `last`, n_last rows, after `steps` steps theta -= rates gradient on n rows
   each, with respect to the weights at the start; by_rates: with respect to the rates. losses: (steps + 1,).
   deep: some rate outside the head is not 0, or its gradient is wanted. All products are float32: pairs must be 0. */
void conv4_gradient(const Network *net, const float *theta, const float *rates, int deep, const uint8_t *images,
                 const int64_t *labels, const int64_t *batches, int n, int steps, const int64_t *last, int n_last,
                 const float *values, float *slope, float *by_rates, float *losses, char *memory) {
    Arena arena = {memory};
    Trail trail;
    lay_out_trail(&trail, net, n, steps, n_last, deep, &arena, 1);
    long size = conv4_parameters(net), head = head_at(&trail.last);
    memcpy(trail.thetas, theta, sizeof(float) * size);
    for (int k = 0; k <= steps; k++) {
        Run *run = k < steps ? &trail.steps[k] : &trail.last;
        const int64_t *batch = k < steps ? batches + (long)k * n : last;
        float *now = trail.thetas + k * size, *grads = k < steps ? trail.grads + k * size : slope;
        read_images(run, images, batch, values);
        forward(run, now, NULL, NULL);
        losses[k] = cross_entropy(run, labels, batch, run->n);
        backward_head(run, now, grads);
        if (deep || k == steps) backward_body(run, now, grads);
        else memset(grads, 0, sizeof(float) * head);
        if (k < steps)
            for (long i = 0; i < size; i++) now[size + i] = now[i] - rates[i] * grads[i];
    }
    memset(by_rates, 0, sizeof(float) * size);
    for (int k = steps - 1; k >= 0; k--) {
        const float *grads = trail.grads + k * size;
        for (long i = 0; i < size; i++) trail.way[i] = rates[i] * slope[i];
        for (long i = 0; i < size; i++) by_rates[i] -= grads[i] * slope[i];
        bend(&trail.steps[k], &trail.along, trail.thetas + k * size, grads, labels, batches + (long)k * n, trail.way,
             deep, trail.bent);
        for (long i = 0; i < size; i++) slope[i] -= trail.bent[i];
    }
}
