/* SPDX-License-Identifier: MIT
 *
 * The rules of the C interface: `abi_test <group>` runs one group of checks, `abi_test` all of them. */
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "fusedssim/fusedssim.h"

static int failures = 0;

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
            fprintf(stderr, "    the last error is \"%s\"\n", fusedssim_last_error()); \
            failures++;                                                                \
        }                                                                              \
    } while (0)

/* The call fails with this status, and its text holds these words. */
#define CHECK_FAILS(call, expected_status, words)                                          \
    do {                                                                                   \
        const fusedssim_status status_ = (call);                                           \
        CHECK(status_ == (expected_status));                                               \
        CHECK(status_ == FUSEDSSIM_OK || strstr(fusedssim_last_error(), (words)) != NULL); \
    } while (0)

/* ---- A small problem that is right, for each check to spoil in one way ------------------------------------------- */

enum { HEIGHT = 12, WIDTH = 14, ELEMENTS = HEIGHT * WIDTH };

typedef struct Fixture {
    fusedssim_params params;
    fusedssim_exec exec;
    fusedssim_tensor x, y, out, grad_x, grad_y, grad_out;
    float x_data[ELEMENTS], y_data[ELEMENTS], grad_x_data[ELEMENTS], grad_y_data[ELEMENTS], value, upstream;
} Fixture;

static const float kUntouched = -123.0f;

static void set_up(Fixture* f) {
    const fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    const fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    const int64_t shape[4] = {1, 1, HEIGHT, WIDTH};
    int i;
    f->params = params;
    f->exec = exec;
    for (i = 0; i < ELEMENTS; ++i) {
        f->x_data[i] = (float)(i * 37 % 101) / 100;
        f->y_data[i] = (float)(i * 53 % 89) / 88;
        f->grad_x_data[i] = f->grad_y_data[i] = kUntouched;
    }
    f->value = kUntouched;
    f->upstream = 1;
    f->x = fusedssim_contiguous(f->x_data, FUSEDSSIM_FLOAT32, 4, shape);
    f->y = fusedssim_contiguous(f->y_data, FUSEDSSIM_FLOAT32, 4, shape);
    f->grad_x = fusedssim_contiguous(f->grad_x_data, FUSEDSSIM_FLOAT32, 4, shape);
    f->grad_y = fusedssim_contiguous(f->grad_y_data, FUSEDSSIM_FLOAT32, 4, shape);
    f->out = fusedssim_contiguous(&f->value, FUSEDSSIM_FLOAT32, 0, NULL);
    f->grad_out = fusedssim_contiguous(&f->upstream, FUSEDSSIM_FLOAT32, 0, NULL);
}

static fusedssim_status forward(const Fixture* f) {
    return fusedssim_forward(&f->params, &f->exec, &f->x, &f->y, &f->out, NULL, 0);
}

static fusedssim_status value_and_grad(const Fixture* f) {
    return fusedssim_value_and_grad(&f->params, &f->exec, &f->x, &f->y, &f->out, &f->grad_x, &f->grad_y);
}

static int is_untouched(const Fixture* f) {
    int i;
    for (i = 0; i < ELEMENTS; ++i) {
        if (f->grad_x_data[i] != kUntouched || f->grad_y_data[i] != kUntouched) return 0;
    }
    return f->value == kUntouched;
}

/* ---- The groups -------------------------------------------------------------------------------------------------- */

/* Programs that are already compiled rely on these numbers: a difference is a new SOVERSION. */
static void layout(void) {
    CHECK(sizeof(fusedssim_tensor) == 104);
    CHECK(offsetof(fusedssim_tensor, dtype) == 4);
    CHECK(offsetof(fusedssim_tensor, data) == 8);
    CHECK(offsetof(fusedssim_tensor, ndim) == 16);
    CHECK(offsetof(fusedssim_tensor, reserved) == 20);
    CHECK(offsetof(fusedssim_tensor, shape) == 24);
    CHECK(offsetof(fusedssim_tensor, stride) == 64);

    CHECK(sizeof(fusedssim_params) == 192);
    CHECK(offsetof(fusedssim_params, arithmetic) == 96);
    CHECK(offsetof(fusedssim_params, sample_covariance) == 100);
    CHECK(offsetof(fusedssim_params, axis_window_size) == 104);
    CHECK(offsetof(fusedssim_params, axis_sigma) == 120);
    CHECK(offsetof(fusedssim_params, axis_taps) == 144);
    CHECK(offsetof(fusedssim_params, x_scale) == 168);
    CHECK(offsetof(fusedssim_params, y_scale) == 176);
    CHECK(offsetof(fusedssim_params, variance_grad_scale) == 184);
    CHECK(offsetof(fusedssim_params, data_ranges) == 88);
    CHECK(offsetof(fusedssim_params, objective) == 56);
    CHECK(offsetof(fusedssim_params, lambda_dssim) == 64);
    CHECK(offsetof(fusedssim_params, mask) == 72);
    CHECK(offsetof(fusedssim_params, taps) == 80);
    CHECK(sizeof(fusedssim_ms_params) == 72);
    CHECK(offsetof(fusedssim_params, padding) == 4);
    CHECK(offsetof(fusedssim_params, reduction) == 8);
    CHECK(offsetof(fusedssim_params, window_size) == 12);
    CHECK(offsetof(fusedssim_params, sigma) == 16);
    CHECK(offsetof(fusedssim_params, k1) == 24);
    CHECK(offsetof(fusedssim_params, k2) == 32);
    CHECK(offsetof(fusedssim_params, data_range) == 40);
    CHECK(offsetof(fusedssim_params, grad_scale) == 48);

    CHECK(sizeof(fusedssim_exec) == 40);
    CHECK(offsetof(fusedssim_exec, device) == 4);
    CHECK(offsetof(fusedssim_exec, device_id) == 8);
    CHECK(offsetof(fusedssim_exec, cpu_threads) == 12);
    CHECK(offsetof(fusedssim_exec, stream) == 16);
    CHECK(offsetof(fusedssim_exec, workspace) == 24);
    CHECK(offsetof(fusedssim_exec, workspace_bytes) == 32);

    CHECK(sizeof(fusedssim_info) == 56);
    CHECK(offsetof(fusedssim_info, cuda_architectures) == 8);
    CHECK(offsetof(fusedssim_info, cuda_compiler) == 16);
    CHECK(offsetof(fusedssim_info, cuda_problem) == 24);
    CHECK(offsetof(fusedssim_info, cuda_driver_version) == 32);
    CHECK(offsetof(fusedssim_info, cuda_device_count) == 36);
    CHECK(offsetof(fusedssim_info, cpu_isa) == 40);
    CHECK(offsetof(fusedssim_info, cpu_threads) == 48);

    CHECK(sizeof(fusedssim_cuda_device_info) == 280);
    CHECK(offsetof(fusedssim_cuda_device_info, memory_bytes) == 16);
    CHECK(offsetof(fusedssim_cuda_device_info, name) == 24);

    /* constants are compiled into programs, and the debug information that abidiff reads does not have them */
    CHECK(FUSEDSSIM_OK == 0 && FUSEDSSIM_INVALID_ARGUMENT == 1 && FUSEDSSIM_INVALID_DTYPE == 2);
    CHECK(FUSEDSSIM_WORKSPACE_TOO_SMALL == 3 && FUSEDSSIM_CUDA_UNAVAILABLE == 4 && FUSEDSSIM_CUDA_ERROR == 5);
    CHECK(FUSEDSSIM_OUT_OF_MEMORY == 6 && FUSEDSSIM_INTERNAL_ERROR == 7);
    CHECK(FUSEDSSIM_FLOAT32 == 0 && FUSEDSSIM_FLOAT64 == 1 && FUSEDSSIM_FLOAT16 == 2 && FUSEDSSIM_BFLOAT16 == 3);
    CHECK(FUSEDSSIM_BOOL == 4 && FUSEDSSIM_MAX_NDIM == 5);
    CHECK(FUSEDSSIM_PADDING_SAME == 0 && FUSEDSSIM_PADDING_VALID == 1);
    CHECK(FUSEDSSIM_REDUCTION_MEAN == 0 && FUSEDSSIM_REDUCTION_SUM == 1 && FUSEDSSIM_REDUCTION_PER_IMAGE == 2);
    CHECK(FUSEDSSIM_REDUCTION_PER_PLANE == 3 && FUSEDSSIM_REDUCTION_NONE == 4);
    CHECK(FUSEDSSIM_OBJECTIVE_SSIM == 0 && FUSEDSSIM_OBJECTIVE_LOSS == 1);
    CHECK(FUSEDSSIM_MASK_WEIGHT == 0 && FUSEDSSIM_MASK_NORMALIZED == 1);
    CHECK(FUSEDSSIM_CPU == 0 && FUSEDSSIM_CUDA == 1);
    CHECK(FUSEDSSIM_GRAD_NONE == 0 && FUSEDSSIM_GRAD_X == 1 && FUSEDSSIM_GRAD_Y == 2);
    CHECK(FUSEDSSIM_OP_FORWARD == 0 && FUSEDSSIM_OP_VALUE_AND_GRAD == 1 && FUSEDSSIM_OP_BACKWARD == 2);
    CHECK(FUSEDSSIM_OP_BACKWARD_SAVED == 3 && FUSEDSSIM_MAX_LEVELS == 8);
}

static void struct_size(void) {
    struct {
        fusedssim_params known;
        double unknown;
    } longer;
    Fixture f;
    float usual, as_default;

    set_up(&f);
    CHECK(forward(&f) == FUSEDSSIM_OK);
    usual = f.value;

    /* what a shorter structure leaves out has its default: here all from sigma on, whatever stands there */
    f.params.struct_size = offsetof(fusedssim_params, sigma);
    f.params.sigma = -1;
    f.params.data_range = 0;
    f.value = kUntouched;
    CHECK(forward(&f) == FUSEDSSIM_OK);
    as_default = f.value;
    CHECK(as_default == usual);

    /* a longer structure is one of a later version: accepted if it asks for nothing that is not known here */
    set_up(&f);
    memset(&longer, 0, sizeof longer);
    longer.known = f.params;
    longer.known.struct_size = sizeof longer;
    CHECK(fusedssim_forward(&longer.known, &f.exec, &f.x, &f.y, &f.out, NULL, 0) == FUSEDSSIM_OK);
    CHECK(f.value == usual);
    longer.unknown = 1;
    CHECK_FAILS(fusedssim_forward(&longer.known, &f.exec, &f.x, &f.y, &f.out, NULL, 0), FUSEDSSIM_INVALID_ARGUMENT,
                "params");

    /* a size within a field, or a tensor without its strides, is no structure of any version */
    set_up(&f);
    f.params.struct_size = offsetof(fusedssim_params, sigma) + 4;
    CHECK_FAILS(forward(&f), FUSEDSSIM_INVALID_ARGUMENT, "params.struct_size");
    set_up(&f);
    f.x.struct_size = offsetof(fusedssim_tensor, stride);
    CHECK_FAILS(forward(&f), FUSEDSSIM_INVALID_ARGUMENT, "x.struct_size");
    set_up(&f);
    f.x.reserved = 1;
    CHECK_FAILS(forward(&f), FUSEDSSIM_INVALID_ARGUMENT, "x.reserved");

    /* a size of nothing is a structure that was never set */
    set_up(&f);
    f.params.struct_size = 0;
    CHECK_FAILS(forward(&f), FUSEDSSIM_INVALID_ARGUMENT, "params");
    set_up(&f);
    f.exec.struct_size = 0;
    CHECK_FAILS(forward(&f), FUSEDSSIM_INVALID_ARGUMENT, "exec");
    set_up(&f);
    f.x.struct_size = 0;
    CHECK_FAILS(forward(&f), FUSEDSSIM_INVALID_ARGUMENT, "x");
}

static void null_pointers(void) {
    Fixture f;
    size_t bytes = 0;
    set_up(&f);

    CHECK_FAILS(fusedssim_forward(NULL, &f.exec, &f.x, &f.y, &f.out, NULL, 0), FUSEDSSIM_INVALID_ARGUMENT, "params");
    CHECK_FAILS(fusedssim_forward(&f.params, NULL, &f.x, &f.y, &f.out, NULL, 0), FUSEDSSIM_INVALID_ARGUMENT, "exec");
    CHECK_FAILS(fusedssim_forward(&f.params, &f.exec, NULL, &f.y, &f.out, NULL, 0), FUSEDSSIM_INVALID_ARGUMENT, "x");
    CHECK_FAILS(fusedssim_forward(&f.params, &f.exec, &f.x, NULL, &f.out, NULL, 0), FUSEDSSIM_INVALID_ARGUMENT, "y");
    CHECK_FAILS(fusedssim_forward(&f.params, &f.exec, &f.x, &f.y, NULL, NULL, 0), FUSEDSSIM_INVALID_ARGUMENT, "out");
    CHECK_FAILS(fusedssim_value_and_grad(&f.params, &f.exec, &f.x, &f.y, &f.out, NULL, NULL),
                FUSEDSSIM_INVALID_ARGUMENT, "grad");
    CHECK_FAILS(fusedssim_backward(&f.params, &f.exec, &f.x, &f.y, NULL, 0, NULL, &f.grad_x, NULL),
                FUSEDSSIM_INVALID_ARGUMENT, "grad_out");
    CHECK_FAILS(fusedssim_backward(&f.params, &f.exec, &f.x, &f.y, NULL, 0, &f.grad_out, NULL, NULL),
                FUSEDSSIM_INVALID_ARGUMENT, "grad");
    CHECK_FAILS(fusedssim_scale(&f.exec, 1, NULL, &f.grad_x), FUSEDSSIM_INVALID_ARGUMENT, "scale");
    CHECK_FAILS(fusedssim_scale(&f.exec, 1, &f.grad_out, NULL), FUSEDSSIM_INVALID_ARGUMENT, "grad");
    CHECK_FAILS(
        fusedssim_workspace_size(&f.params, &f.exec, FUSEDSSIM_OP_FORWARD, FUSEDSSIM_GRAD_NONE, &f.x, &f.y, NULL),
        FUSEDSSIM_INVALID_ARGUMENT, "bytes");
    CHECK_FAILS(fusedssim_saved_size(&f.params, &f.exec, FUSEDSSIM_GRAD_X, &f.x, &f.y, NULL),
                FUSEDSSIM_INVALID_ARGUMENT, "bytes");
    CHECK_FAILS(fusedssim_get_info(NULL), FUSEDSSIM_INVALID_ARGUMENT, "info");
    CHECK_FAILS(fusedssim_get_cuda_device_info(0, NULL), FUSEDSSIM_INVALID_ARGUMENT, "info");

    f.x.data = NULL;
    CHECK_FAILS(forward(&f), FUSEDSSIM_INVALID_ARGUMENT, "x");
    CHECK(is_untouched(&f));

    /* sizes are about shapes, no data has to be there */
    CHECK(fusedssim_workspace_size(&f.params, &f.exec, FUSEDSSIM_OP_FORWARD, FUSEDSSIM_GRAD_NONE, &f.x, &f.y, &bytes) ==
          FUSEDSSIM_OK);
    CHECK(bytes == 0); /* the CPU needs none */
    f.y.data = NULL;
    f.y.shape[3] += 1;
    CHECK_FAILS(
        fusedssim_workspace_size(&f.params, &f.exec, FUSEDSSIM_OP_FORWARD, FUSEDSSIM_GRAD_NONE, &f.x, &f.y, &bytes),
        FUSEDSSIM_INVALID_ARGUMENT, "y");

    /* what may be NULL */
    set_up(&f);
    CHECK(fusedssim_value_and_grad(&f.params, &f.exec, &f.x, &f.y, NULL, &f.grad_x, NULL) == FUSEDSSIM_OK);
    CHECK(f.value == kUntouched && f.grad_x_data[0] != kUntouched && f.grad_y_data[0] == kUntouched);
    CHECK(fusedssim_backward(&f.params, &f.exec, &f.x, &f.y, NULL, 0, &f.grad_out, NULL, &f.grad_y) == FUSEDSSIM_OK);
    CHECK(f.grad_y_data[0] != kUntouched);
}

static void bad_values(void) {
    Fixture f;

#define CHECK_SPOILT(statement, expected_status, words)              \
    do {                                                             \
        set_up(&f);                                                  \
        statement;                                                   \
        CHECK_FAILS(value_and_grad(&f), (expected_status), (words)); \
        CHECK(is_untouched(&f));                                     \
    } while (0)

    CHECK_SPOILT(f.params.padding = 5, FUSEDSSIM_INVALID_ARGUMENT, "padding");
    CHECK_SPOILT(f.params.reduction = -1, FUSEDSSIM_INVALID_ARGUMENT, "reduction");
    CHECK_SPOILT(f.params.window_size = 10, FUSEDSSIM_INVALID_ARGUMENT, "window_size");
    CHECK_SPOILT(f.params.window_size = FUSEDSSIM_MAX_WINDOW_SIZE + 2, FUSEDSSIM_INVALID_ARGUMENT, "window_size");
    CHECK_SPOILT(f.params.sigma = 0, FUSEDSSIM_INVALID_ARGUMENT, "sigma");
    CHECK_SPOILT(f.params.k1 = -0.5, FUSEDSSIM_INVALID_ARGUMENT, "k1");
    CHECK_SPOILT(f.params.arithmetic = FUSEDSSIM_FLOAT16, FUSEDSSIM_INVALID_ARGUMENT, "arithmetic");
    CHECK_SPOILT(f.params.sample_covariance = 2, FUSEDSSIM_INVALID_ARGUMENT, "sample_covariance");
    CHECK_SPOILT(f.params.axis_window_size[1] = 4, FUSEDSSIM_INVALID_ARGUMENT, "axis_window_size[1] = 4");
    CHECK_SPOILT(f.params.axis_sigma[2] = -1, FUSEDSSIM_INVALID_ARGUMENT, "axis_sigma[2] = -1");
    CHECK_SPOILT(f.params.x_scale = 0.5, FUSEDSSIM_INVALID_ARGUMENT, "x_scale");
    CHECK_SPOILT(f.params.y_scale = 0, FUSEDSSIM_INVALID_ARGUMENT, "y_scale");
    CHECK_SPOILT(f.params.variance_grad_scale = 1.5, FUSEDSSIM_INVALID_ARGUMENT, "variance_grad_scale = 1.5");
    CHECK_SPOILT(f.params.variance_grad_scale = -1, FUSEDSSIM_INVALID_ARGUMENT, "variance_grad_scale");
    CHECK_SPOILT(f.params.reserved = 1, FUSEDSSIM_INVALID_ARGUMENT, "reserved");
    {
        /* sigma serves an axis of another size, although there are taps */
        static const double box[3] = {0.25, 0.5, 0.25};
        CHECK_SPOILT(
            (f.params.taps = box, f.params.window_size = 3, f.params.axis_window_size[2] = 5, f.params.sigma = 0),
            FUSEDSSIM_INVALID_ARGUMENT, "sigma");
    }
    CHECK_SPOILT(f.params.data_ranges = &f.x, FUSEDSSIM_INVALID_ARGUMENT, "data_ranges");
    CHECK_SPOILT(f.params.data_range = 0, FUSEDSSIM_INVALID_ARGUMENT, "data_range");
    CHECK_SPOILT(f.exec.device = 9, FUSEDSSIM_INVALID_ARGUMENT, "device");
    CHECK_SPOILT(f.exec.cpu_threads = -1, FUSEDSSIM_INVALID_ARGUMENT, "cpu_threads");
    CHECK_SPOILT(f.x.dtype = f.y.dtype = 77, FUSEDSSIM_INVALID_DTYPE, "dtype");
    CHECK_SPOILT(f.y.dtype = FUSEDSSIM_FLOAT16, FUSEDSSIM_INVALID_DTYPE, "dtype");
    CHECK_SPOILT((f.x.dtype = FUSEDSSIM_UINT8, f.exec.device = FUSEDSSIM_CUDA), FUSEDSSIM_INVALID_DTYPE,
                 "no gradient on this device");
    CHECK_SPOILT(f.out.dtype = FUSEDSSIM_FLOAT64, FUSEDSSIM_INVALID_DTYPE, "out");
    CHECK_SPOILT(f.x.ndim = f.y.ndim = 3, FUSEDSSIM_INVALID_ARGUMENT, "ndim");
    CHECK_SPOILT(f.y.shape[3] = WIDTH - 1, FUSEDSSIM_INVALID_ARGUMENT, "shape[3]");
    CHECK_SPOILT(f.x.shape[0] = f.y.shape[0] = 0, FUSEDSSIM_INVALID_ARGUMENT, "shape[0]");
    CHECK_SPOILT(f.grad_y.shape[2] = HEIGHT - 1, FUSEDSSIM_INVALID_ARGUMENT, "grad_y");
#undef CHECK_SPOILT

    set_up(&f);
    f.params.window_size = 13;
    f.params.padding = FUSEDSSIM_PADDING_VALID;
    CHECK_FAILS(forward(&f), FUSEDSSIM_INVALID_ARGUMENT, "x.shape[2] = 12 < window 13 (padding valid)");
}

static void nothing_written(void) {
    Fixture f;
    set_up(&f);
    f.grad_y.shape[3] = WIDTH + 1; /* the very last argument is the wrong one */
    CHECK(value_and_grad(&f) != FUSEDSSIM_OK);
    CHECK(is_untouched(&f));

    set_up(&f);
    f.grad_x.data = f.x.data; /* would overwrite what is still to be read */
    CHECK_FAILS(value_and_grad(&f), FUSEDSSIM_INVALID_ARGUMENT, "grad_x.data");
    CHECK(is_untouched(&f));

    set_up(&f);
    CHECK(value_and_grad(&f) == FUSEDSSIM_OK);
    CHECK(!is_untouched(&f));
}

/* Large volumes take at most 0.6 images besides images and gradients, and save nothing. */
static void large_volumes(void) {
    static const int64_t shapes[][5] = {{1, 1, 512, 512, 512},  {1, 1, 1024, 1024, 1024}, {2, 1, 513, 401, 399},
                                        {64, 1, 128, 128, 128}, {1, 3, 400, 400, 301},    {1, 1, 200, 256, 2622},
                                        {1, 1, 16, 70000, 128}, {1000, 8, 33, 20, 27},    {1, 1, 1300, 700, 1}};
    const fusedssim_grads all_grads[] = {FUSEDSSIM_GRAD_X, FUSEDSSIM_GRAD_X | FUSEDSSIM_GRAD_Y};
    const fusedssim_dtype dtypes[] = {FUSEDSSIM_FLOAT32, FUSEDSSIM_FLOAT64, FUSEDSSIM_FLOAT16};
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    fusedssim_info info;
    size_t i, k;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    CHECK(fusedssim_get_info(&info) == FUSEDSSIM_OK);
    if (!info.cuda_built) return;
    exec.device = FUSEDSSIM_CUDA;
    for (i = 0; i < sizeof shapes / sizeof *shapes; ++i)
        for (k = 0; k < 6; ++k) {
            const fusedssim_dtype dtype = dtypes[k % 3];
            const fusedssim_grads grads = all_grads[k / 3];
            const fusedssim_tensor x = fusedssim_contiguous(NULL, dtype, 5, shapes[i]);
            const double elements = (double)x.stride[0] * (double)x.shape[0];
            const double image = elements * (dtype == FUSEDSSIM_FLOAT64 ? 8 : 4);
            const int is_large = elements >= 512.0 * 512 * 512;
            size_t in_all, backward, saved;
            CHECK(fusedssim_workspace_size(&params, &exec, FUSEDSSIM_OP_VALUE_AND_GRAD, grads, &x, NULL, &in_all) ==
                  FUSEDSSIM_OK);
            CHECK(fusedssim_workspace_size(&params, &exec, FUSEDSSIM_OP_BACKWARD, grads, &x, NULL, &backward) ==
                  FUSEDSSIM_OK);
            CHECK(fusedssim_saved_size(&params, &exec, grads, &x, NULL, &saved) == FUSEDSSIM_OK);
            CHECK(is_large == (saved == 0));
            CHECK(is_large == ((double)in_all < 0.6 * image));
            CHECK(backward <= in_all);
        }
}

/* Gradients of images: kilobytes for the usual arguments, three images for a target of another dtype. */
static void workspace_of_images(void) {
    static const int64_t shape[] = {2, 3, 100, 120};
    const double image = 4.0 * 2 * 3 * 100 * 120;
    fusedssim_tensor x = fusedssim_contiguous(NULL, FUSEDSSIM_FLOAT32, 4, shape), y = x;
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    size_t usual, alike, bytes_of_target, wide;
    exec.device = FUSEDSSIM_CUDA;
    CHECK(fusedssim_workspace_size(&params, &exec, FUSEDSSIM_OP_VALUE_AND_GRAD, FUSEDSSIM_GRAD_X, &x, &y, &usual) ==
          FUSEDSSIM_OK);
    CHECK(fusedssim_workspace_size(&params, &exec, FUSEDSSIM_OP_VALUE_AND_GRAD, FUSEDSSIM_GRAD_X, &x, NULL, &alike) ==
          FUSEDSSIM_OK);
    y.dtype = FUSEDSSIM_UINT8;
    CHECK(fusedssim_workspace_size(&params, &exec, FUSEDSSIM_OP_VALUE_AND_GRAD, FUSEDSSIM_GRAD_X, &x, &y,
                                   &bytes_of_target) == FUSEDSSIM_OK);
    params.window_size = 21;
    CHECK(fusedssim_workspace_size(&params, &exec, FUSEDSSIM_OP_VALUE_AND_GRAD, FUSEDSSIM_GRAD_X, &x, NULL, &wide) ==
          FUSEDSSIM_OK);
    CHECK(usual == alike);
    CHECK((double)usual < 0.1 * image);
    CHECK((double)bytes_of_target > 3 * image && (double)bytes_of_target < 3.1 * image);
    CHECK((double)wide > 3 * image && (double)wide < 3.1 * image);
}

static void workspace(void) {
    fusedssim_info info;
    Fixture f;
    size_t bytes = 0;
    char memory[16];
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    CHECK(fusedssim_get_info(&info) == FUSEDSSIM_OK);

    set_up(&f);
    f.exec.device = FUSEDSSIM_CUDA;
    if (!info.cuda_built) {
        CHECK_FAILS(forward(&f), FUSEDSSIM_CUDA_UNAVAILABLE, "CUDA");
        CHECK(is_untouched(&f));
        return;
    }
    workspace_of_images();
    /* no device has to be there, neither for the question nor for the refusal */
    CHECK(fusedssim_workspace_size(&f.params, &f.exec, FUSEDSSIM_OP_VALUE_AND_GRAD, FUSEDSSIM_GRAD_X | FUSEDSSIM_GRAD_Y,
                                   &f.x, &f.y, &bytes) == FUSEDSSIM_OK);
    CHECK(bytes > 0);
    CHECK_FAILS(value_and_grad(&f), FUSEDSSIM_WORKSPACE_TOO_SMALL, "workspace");
    f.exec.workspace = memory;
    f.exec.workspace_bytes = bytes - 1;
    CHECK_FAILS(value_and_grad(&f), FUSEDSSIM_WORKSPACE_TOO_SMALL, "workspace");
    f.exec.workspace = (char*)NULL + 24; /* aligned to 8 bytes only */
    f.exec.workspace_bytes = bytes;
    CHECK_FAILS(value_and_grad(&f), FUSEDSSIM_WORKSPACE_TOO_SMALL, "workspace");
    CHECK(is_untouched(&f));
}

/* Another thread's failure must not show here. */
static void* fail_in_thread(void* result) {
    Fixture f;
    set_up(&f);
    *(int*)result = fusedssim_last_error()[0] == '\0';
    f.params.sigma = -2.5;
    *(int*)result &= forward(&f) == FUSEDSSIM_INVALID_ARGUMENT && strstr(fusedssim_last_error(), "-2.5") != NULL;
    return NULL;
}

static void error_text(void) {
    Fixture f;
    char before[256];
    pthread_t thread;
    int thread_is_right = 0;
    fusedssim_status status;
    CHECK(fusedssim_last_error() != NULL);

    set_up(&f);
    f.params.window_size = 8;
    CHECK_FAILS(forward(&f), FUSEDSSIM_INVALID_ARGUMENT, "8");
    CHECK(strlen(fusedssim_last_error()) < sizeof before);
    strncpy(before, fusedssim_last_error(), sizeof before - 1);
    before[sizeof before - 1] = '\0';

    set_up(&f);
    CHECK(forward(&f) == FUSEDSSIM_OK);
    CHECK(strcmp(fusedssim_last_error(), before) == 0); /* a call that succeeds leaves the text alone */
    CHECK(pthread_create(&thread, NULL, fail_in_thread, &thread_is_right) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(thread_is_right);
    CHECK(strcmp(fusedssim_last_error(), before) == 0);

    for (status = FUSEDSSIM_OK; status <= FUSEDSSIM_INTERNAL_ERROR; ++status) {
        CHECK(fusedssim_status_string(status) != NULL && fusedssim_status_string(status)[0] != '\0');
    }
    CHECK(fusedssim_status_string(12345) != NULL && fusedssim_status_string(-1) != NULL);
}

static void error_names(void) {
    static const char* const names[] = {"x",        "img1",    "params.k1", "K[0]", "params.mask",
                                        "the mask", "params.", "",          NULL};
    static const char* const only_y[] = {"y", "img2", NULL};
    static const char* const no_prefix[] = {"params", "p", "params.sig", "s", NULL};
    static const char* const half_a_pair[] = {"params.sigma", NULL};
    static const char* const none[] = {NULL};
    static char long_name[5000];
    const char* const long_names[] = {"x", long_name, NULL};
    Fixture f;

    set_up(&f);
    f.params.sigma = -2.5;
    CHECK(forward(&f) == FUSEDSSIM_INVALID_ARGUMENT);
    CHECK(strcmp(fusedssim_last_error_as(names), "sigma = -2.5, expected a positive number") == 0);
    CHECK(strcmp(fusedssim_last_error(), "params.sigma = -2.5, expected a positive number") == 0);
    CHECK(strcmp(fusedssim_last_error_as(NULL), fusedssim_last_error()) == 0);
    CHECK(strcmp(fusedssim_last_error_as(none), fusedssim_last_error()) == 0);
    CHECK(strcmp(fusedssim_last_error_as(only_y), fusedssim_last_error()) == 0);
    CHECK(strcmp(fusedssim_last_error_as(half_a_pair), fusedssim_last_error()) == 0);
    CHECK(strcmp(fusedssim_last_error_as(no_prefix), fusedssim_last_error()) == 0); /* only a dot ends a prefix */

    /* the first pair that fits counts */
    set_up(&f);
    f.params.k1 = -1;
    CHECK(forward(&f) == FUSEDSSIM_INVALID_ARGUMENT);
    CHECK(strcmp(fusedssim_last_error_as(names), "K[0] = -1, expected a number >= 0") == 0);

    /* all names of a text, and nothing that only looks like one */
    set_up(&f);
    f.out.data = f.x.data;
    CHECK(forward(&f) == FUSEDSSIM_INVALID_ARGUMENT);
    CHECK(strcmp(fusedssim_last_error_as(names), "out.data = img1.data: img1 would be overwritten") == 0);
    CHECK(strcmp(fusedssim_last_error(), "out.data = x.data: x would be overwritten") == 0);

    set_up(&f);
    f.params.padding = FUSEDSSIM_PADDING_VALID;
    f.params.window_size = 13;
    CHECK(forward(&f) == FUSEDSSIM_INVALID_ARGUMENT);
    CHECK(strcmp(fusedssim_last_error_as(names), "img1.shape[2] = 12 < window 13 (padding valid)") == 0);

    /* a text has an end */
    memset(long_name, 'n', sizeof long_name - 1);
    CHECK(strlen(fusedssim_last_error_as(long_names)) < sizeof long_name - 1);
    CHECK(strncmp(fusedssim_last_error_as(long_names), long_name, 1000) == 0);

    /* its memory is its own: another text does not change it */
    {
        const char* const kept = fusedssim_last_error_as(names);
        set_up(&f);
        f.params.sigma = 0;
        CHECK(forward(&f) == FUSEDSSIM_INVALID_ARGUMENT);
        CHECK(strcmp(kept, "img1.shape[2] = 12 < window 13 (padding valid)") == 0);
    }
}

static void info_group(void) {
    struct {
        fusedssim_info known;
        char guard[8];
    } memory;
    char version[32];
    const size_t half = offsetof(fusedssim_info, cpu_isa);

    memset(&memory, 0x5a, sizeof memory);
    memory.known.struct_size = sizeof memory.known;
    CHECK(fusedssim_get_info(&memory.known) == FUSEDSSIM_OK);
    CHECK(memory.known.struct_size == sizeof memory.known);
    CHECK(memory.known.cpu_threads >= 1 && memory.known.cpu_isa[0] != '\0');
    CHECK((memory.known.cuda_built != 0) == (memory.known.cuda_architectures[0] != '\0'));
    CHECK((memory.known.cuda_built != 0) == (memory.known.cuda_compiler[0] != '\0'));
    CHECK(memory.known.cuda_device_count > 0 || memory.known.cuda_problem[0] != '\0');
    CHECK(memory.guard[0] == 0x5a);

    /* an older program has a shorter structure: what lies behind it is not ours */
    memset(&memory, 0x5a, sizeof memory);
    memory.known.struct_size = (uint32_t)half;
    CHECK(fusedssim_get_info(&memory.known) == FUSEDSSIM_OK);
    CHECK(((const char*)&memory.known)[half] == 0x5a);

    snprintf(version, sizeof version, "%d.%d.%d", FUSEDSSIM_VERSION_MAJOR, FUSEDSSIM_VERSION_MINOR,
             FUSEDSSIM_VERSION_PATCH);
    CHECK(strcmp(fusedssim_version(), version) == 0);
}

/* Numbers that overflow what is computed of them, before they are refused. */
static void strides(void) {
    const fusedssim_ms_params ms = FUSEDSSIM_MS_PARAMS_DEFAULT;
    static const int64_t bad[] = {INT64_MIN, INT64_MAX, (int64_t)1 << 62, -((int64_t)1 << 62), (int64_t)1 << 61};
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    Fixture f;
    size_t i, bytes = 0;
    int axis;
    float usual;

    set_up(&f);
    params.window_size = INT32_MIN;
    params.padding = FUSEDSSIM_PADDING_VALID;
    CHECK_FAILS(fusedssim_ms_forward(&params, &ms, &f.exec, &f.x, &f.y, &f.out), FUSEDSSIM_INVALID_ARGUMENT,
                "params.window_size");
    CHECK_FAILS(fusedssim_ms_workspace_size(&params, &ms, &f.exec, 0, &f.x, &f.y, &bytes), FUSEDSSIM_INVALID_ARGUMENT,
                "params.window_size");
    f.params.window_size = INT32_MIN;
    CHECK_FAILS(forward(&f), FUSEDSSIM_INVALID_ARGUMENT, "params.window_size");

    set_up(&f);
    CHECK(forward(&f) == FUSEDSSIM_OK);
    usual = f.value;
    for (i = 0; i < sizeof bad / sizeof *bad; ++i) {
        for (axis = 2; axis < 4; ++axis) {
            set_up(&f);
            f.grad_x.stride[axis] = bad[i];
            CHECK_FAILS(value_and_grad(&f), FUSEDSSIM_INVALID_ARGUMENT, "grad_x.stride");
            CHECK(is_untouched(&f));
            set_up(&f);
            f.y.stride[axis] = bad[i];
            CHECK_FAILS(value_and_grad(&f), FUSEDSSIM_INVALID_ARGUMENT, "y.stride");
            CHECK(is_untouched(&f));
        }
        /* a sum of spans that is beyond 64 bits */
        set_up(&f);
        f.grad_y.stride[2] = ((int64_t)1 << 62) / HEIGHT;
        f.grad_y.stride[3] = bad[i];
        CHECK_FAILS(value_and_grad(&f), FUSEDSSIM_INVALID_ARGUMENT, "grad_y.stride");
        CHECK(is_untouched(&f));
        /* the stride of an axis of one element may be anything */
        set_up(&f);
        f.x.stride[0] = f.y.stride[1] = f.grad_x.stride[0] = f.grad_y.stride[1] = bad[i];
        CHECK(value_and_grad(&f) == FUSEDSSIM_OK);
        CHECK(f.value == usual);
    }
}

int main(int argc, char** argv) {
    static const struct {
        const char* name;
        void (*run)(void);
    } groups[] = {
        {"layout", layout},
        {"struct_size", struct_size},
        {"null_pointers", null_pointers},
        {"bad_values", bad_values},
        {"nothing_written", nothing_written},
        {"workspace", workspace},
        {"large_volumes", large_volumes},
        {"error_text", error_text},
        {"error_names", error_names},
        {"info", info_group},
        {"strides", strides},
    };
    size_t i;
    int found = 0;
    for (i = 0; i < sizeof groups / sizeof *groups; ++i) {
        if (argc < 2 || strcmp(argv[1], groups[i].name) == 0) {
            groups[i].run();
            found = 1;
        }
    }
    if (!found) {
        fprintf(stderr, "abi_test: no group %s\n", argv[1]);
        return 2;
    }
    return failures != 0;
}
