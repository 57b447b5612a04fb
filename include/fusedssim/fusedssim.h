/* SPDX-License-Identifier: MIT
 *
 * libfusedssim: structural similarity (SSIM) and its gradient, fused, in 2D and 3D, on the CPU and on CUDA.
 *
 * This header is the whole public interface and its manual. It is C99, includes nothing of CUDA, and stays
 * binary compatible within one SOVERSION.
 *
 *
 * What is computed
 * ----------------
 * x and y are two images (2D) or volumes (3D), G* is a separable Gaussian filter (an odd window whose taps sum to 1),
 * C1 = (k1 L)^2, C2 = (k2 L)^2, L the data range. With s = x + y, d = x - y, and per position
 *
 *     mu_s = G*s    mu_d = G*d    var_s = G*s^2 - mu_s^2    var_d = G*d^2 - mu_d^2
 *
 *     SSIM = (1 - 2 mu_d^2 / (mu_s^2 + mu_d^2 + 2 C1)) (1 - 2 var_d / (var_s + var_d + 2 C2))
 *
 * which equals the formula of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
 * structural similarity" (2004), and is far better conditioned in floating point: identical images give exactly 1, and
 * no result exceeds 1.
 *
 *
 * A first program
 * ---------------
 *     fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;        // window 11, sigma 1.5, range [0, 1], mean
 *     fusedssim_exec   exec   = FUSEDSSIM_EXEC_DEFAULT;          // the CPU, all cores
 *     int64_t shape[4] = {1, 3, height, width};
 *     fusedssim_tensor x = fusedssim_contiguous(x_data, FUSEDSSIM_FLOAT32, 4, shape);
 *     fusedssim_tensor y = fusedssim_contiguous(y_data, FUSEDSSIM_FLOAT32, 4, shape);
 *     float value;
 *     fusedssim_tensor out = fusedssim_contiguous(&value, FUSEDSSIM_FLOAT32, 0, NULL);
 *     if (fusedssim_forward(&params, &exec, &x, &y, &out, NULL, 0) != FUSEDSSIM_OK)
 *         fprintf(stderr, "%s\n", fusedssim_last_error());
 *
 *
 * Rules that hold for every call
 * ------------------------------
 * - Everything is checked before anything is launched or written: a call that fails has changed nothing. (The one
 *   exception is FUSEDSSIM_CUDA_ERROR from a launch after the first.)
 * - On CUDA, work is enqueued on exec->stream of exec->device_id and the call returns at once. It can be captured into
 *   a CUDA graph. The library allocates no device memory and never synchronises; what it needs beyond the arguments is
 *   exec->workspace, whose size fusedssim_workspace_size() tells. On the CPU the call returns when the result is there.
 * - Any strides are accepted, in elements and without copies: channels-last, slices, transposes, zero strides of
 *   broadcast inputs. Outputs must not overlap themselves, each other, an input or the workspace. Of that, equal pointers
 *   and strides that cannot be told to be free of overlap are refused; the rest is the caller's care.
 * - Arithmetic is float32 for float32, float16 and bfloat16, float64 for float64. Sums run in a fixed order: the same
 *   call gives the same bits.
 * - Any thread may call at any time.
 */
#ifndef FUSEDSSIM_FUSEDSSIM_H
#define FUSEDSSIM_FUSEDSSIM_H

#include <stddef.h>
#include <stdint.h>

#define FUSEDSSIM_VERSION_MAJOR 0
#define FUSEDSSIM_VERSION_MINOR 1
#define FUSEDSSIM_VERSION_PATCH 0

#if defined(FUSEDSSIM_STATIC)
#define FUSEDSSIM_API
#elif defined(_WIN32) && defined(FUSEDSSIM_BUILDING)
#define FUSEDSSIM_API __declspec(dllexport)
#elif defined(_WIN32)
#define FUSEDSSIM_API __declspec(dllimport)
#else
#define FUSEDSSIM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status ------------------------------------------------------------------------------------------------------ */

/* What a call returns. Values never change their meaning; new ones may be added. */
typedef int32_t fusedssim_status;
enum {
    FUSEDSSIM_OK = 0,
    FUSEDSSIM_INVALID_ARGUMENT = 1,    /* an argument is wrong; the error text names it */
    FUSEDSSIM_INVALID_DTYPE = 2,       /* a dtype is unknown, or two that must agree do not */
    FUSEDSSIM_WORKSPACE_TOO_SMALL = 3, /* exec->workspace is NULL, misaligned or too short */
    FUSEDSSIM_CUDA_UNAVAILABLE = 4,    /* no driver, no device, built without CUDA, or no code for this GPU */
    FUSEDSSIM_CUDA_ERROR = 5,          /* the CUDA driver reported an error */
    FUSEDSSIM_OUT_OF_MEMORY = 6,       /* host memory ran out */
    FUSEDSSIM_INTERNAL_ERROR = 7       /* a defect of this library */
};

/* A short English name of a status, such as "invalid argument". Never NULL. */
FUSEDSSIM_API const char* fusedssim_status_string(fusedssim_status status);

/* The text of this thread's last failed call: the argument, its value and what was expected, for instance
 *     x.shape[2] = 7 < window 11 (padding valid)
 * Empty if no call of this thread has failed. Valid until this thread's next failing call. */
FUSEDSSIM_API const char* fusedssim_last_error(void);

/* ---- Arguments --------------------------------------------------------------------------------------------------- */

/* Every structure starts with struct_size = sizeof(the structure), so that programs built with one version of this
 * header work with another version of the library: what a shorter structure leaves out has its default, and a longer
 * one is accepted if what this library does not know is zero. The *_DEFAULT initialisers set it. */

typedef int32_t fusedssim_dtype;
enum {
    FUSEDSSIM_FLOAT32 = 0,
    FUSEDSSIM_FLOAT64 = 1,
    FUSEDSSIM_FLOAT16 = 2, /* IEEE binary16 */
    FUSEDSSIM_BFLOAT16 = 3
};

#define FUSEDSSIM_MAX_NDIM 5

/* An array in memory. Images have 4 axes [N, C, H, W], volumes 5 [N, C, D, H, W]; a plane is one of the N * C images
 * or volumes. data may be NULL only where a function's description says so. */
typedef struct fusedssim_tensor {
    uint32_t struct_size;
    fusedssim_dtype dtype;
    void* data;                         /* host memory, or memory of exec->device_id; aligned to its element */
    int32_t ndim;                       /* 0 to FUSEDSSIM_MAX_NDIM */
    int32_t reserved;                   /* 0 */
    int64_t shape[FUSEDSSIM_MAX_NDIM];  /* each at least 1 */
    int64_t stride[FUSEDSSIM_MAX_NDIM]; /* in elements */
} fusedssim_tensor;

/* A C-contiguous tensor. shape may be NULL if ndim is 0. */
static inline fusedssim_tensor fusedssim_contiguous(void* data, fusedssim_dtype dtype, int32_t ndim,
                                                    const int64_t* shape) {
    fusedssim_tensor tensor = {sizeof(fusedssim_tensor), 0, NULL, 0, 0, {0}, {0}};
    int64_t stride = 1;
    int32_t axis;
    tensor.dtype = dtype;
    tensor.data = data;
    tensor.ndim = ndim;
    for (axis = (ndim < FUSEDSSIM_MAX_NDIM ? ndim : FUSEDSSIM_MAX_NDIM) - 1; axis >= 0; --axis) {
        tensor.shape[axis] = shape[axis];
        tensor.stride[axis] = stride;
        stride *= shape[axis];
    }
    return tensor;
}

/* SAME: zero padding; the map has the size of the images. VALID: only windows that lie wholly inside the image; the
 * map is the SAME map without window_size / 2 elements at each end of each spatial axis. */
typedef int32_t fusedssim_padding;
enum { FUSEDSSIM_PADDING_SAME = 0, FUSEDSSIM_PADDING_VALID = 1 };

/* How the map becomes `out`. The shape of `out` follows from it. */
typedef int32_t fusedssim_reduction;
enum {
    FUSEDSSIM_REDUCTION_MEAN = 0,      /* one number; out has no axes */
    FUSEDSSIM_REDUCTION_SUM = 1,       /* one number; out has no axes */
    FUSEDSSIM_REDUCTION_PER_IMAGE = 2, /* means over C and the spatial axes; out is [N] */
    FUSEDSSIM_REDUCTION_PER_PLANE = 3, /* means over the spatial axes; out is [N, C] */
    FUSEDSSIM_REDUCTION_NONE = 4       /* the map itself; out is [N, C, (D,) H, W], smaller for padding VALID */
};

#define FUSEDSSIM_MAX_WINDOW_SIZE 33

/* What to compute. */
typedef struct fusedssim_params {
    uint32_t struct_size;
    fusedssim_padding padding;
    fusedssim_reduction reduction;
    int32_t window_size; /* taps per axis: odd, 1 to FUSEDSSIM_MAX_WINDOW_SIZE */
    double sigma;        /* of the Gaussian, in elements: > 0 */
    double k1, k2;       /* of C1 and C2: >= 0 */
    double data_range;   /* L, the largest value minus the smallest that an image can have: > 0 */
    double grad_scale;   /* multiplies every gradient that is written; a loss scale for float16, whose gradients of a
                            mean would underflow. Finite. */
} fusedssim_params;

#define FUSEDSSIM_PARAMS_DEFAULT \
    {sizeof(fusedssim_params), FUSEDSSIM_PADDING_SAME, FUSEDSSIM_REDUCTION_MEAN, 11, 1.5, 0.01, 0.03, 1.0, 1.0}

typedef int32_t fusedssim_device;
enum { FUSEDSSIM_CPU = 0, FUSEDSSIM_CUDA = 1 };

/* Where and how to compute. */
typedef struct fusedssim_exec {
    uint32_t struct_size;
    fusedssim_device device;
    int32_t device_id;   /* CUDA: ordinal of the device. If a context of that device is current it is used, otherwise
                            the device's primary context, and the current context is as before afterwards. */
    int32_t cpu_threads; /* CPU: threads at the most, the calling one included; 0: one for each core */
    void* stream;        /* CUDA: a CUstream / cudaStream_t; NULL is the default stream */
    void* workspace;     /* CUDA: device memory, aligned to 16 bytes, free for this call until it has run */
    uint64_t workspace_bytes;
} fusedssim_exec;

#define FUSEDSSIM_EXEC_DEFAULT {sizeof(fusedssim_exec), FUSEDSSIM_CPU, 0, 0, NULL, NULL, 0}

/* ---- The three operations ---------------------------------------------------------------------------------------- */

/* x and y must agree in dtype and shape. `out` and `grad_out` have the dtype of the arithmetic (float32, or float64 for
 * float64 images), `grad_x` and `grad_y` the dtype and shape of x. */

/* Which gradients: a bit set. */
typedef uint32_t fusedssim_grads;
enum { FUSEDSSIM_GRAD_NONE = 0, FUSEDSSIM_GRAD_X = 1, FUSEDSSIM_GRAD_Y = 2 };

/* out = SSIM of x and y, reduced as params says.
 *
 * saved: NULL, or memory of exactly fusedssim_saved_size() bytes (on the device of x, aligned to 16 bytes), filled for a
 * later fusedssim_backward(): it spares that call to compute the statistics again. Where that size is 0, saving does not
 * pay: pass NULL, and prefer fusedssim_value_and_grad() if the gradient will be wanted. */
FUSEDSSIM_API fusedssim_status fusedssim_forward(const fusedssim_params* params, const fusedssim_exec* exec,
                                                 const fusedssim_tensor* x, const fusedssim_tensor* y,
                                                 const fusedssim_tensor* out, void* saved, size_t saved_bytes);

/* out as in fusedssim_forward(); grad_x and grad_y are the gradients of the sum of out's elements, times
 * params->grad_scale. Either gradient may be NULL, not both; out may be NULL. */
FUSEDSSIM_API fusedssim_status fusedssim_value_and_grad(const fusedssim_params* params, const fusedssim_exec* exec,
                                                        const fusedssim_tensor* x, const fusedssim_tensor* y,
                                                        const fusedssim_tensor* out, const fusedssim_tensor* grad_x,
                                                        const fusedssim_tensor* grad_y);

/* grad_x and grad_y are the gradients of sum(grad_out * out), times params->grad_scale. grad_out has the shape that
 * the reduction gives `out`; it is read on the device. Either gradient may be NULL, not both.
 *
 * saved: NULL, or what fusedssim_forward() filled for the same x, y and params; saved_bytes is exactly the
 * fusedssim_saved_size() of the gradients it was filled for: these, or both. */
FUSEDSSIM_API fusedssim_status fusedssim_backward(const fusedssim_params* params, const fusedssim_exec* exec,
                                                  const fusedssim_tensor* x, const fusedssim_tensor* y,
                                                  const void* saved, size_t saved_bytes,
                                                  const fusedssim_tensor* grad_out, const fusedssim_tensor* grad_x,
                                                  const fusedssim_tensor* grad_y);

/* grad *= factor * scale, in place. `scale` is read on the device and has no axes, [N] or [N, C], where N and C are the
 * first axes of grad. Where the product is 1, memory is left untouched: a gradient that fusedssim_value_and_grad()
 * wrote becomes that of fusedssim_backward() at no cost in the common case grad_out = 1. */
FUSEDSSIM_API fusedssim_status fusedssim_scale(const fusedssim_exec* exec, double factor, const fusedssim_tensor* scale,
                                               const fusedssim_tensor* grad);

/* ---- Sizes ------------------------------------------------------------------------------------------------------- */

typedef int32_t fusedssim_op;
enum {
    FUSEDSSIM_OP_FORWARD = 0,
    FUSEDSSIM_OP_VALUE_AND_GRAD = 1,
    FUSEDSSIM_OP_BACKWARD = 2,      /* with saved = NULL */
    FUSEDSSIM_OP_BACKWARD_SAVED = 3 /* with saved maps */
};

/* Bytes of workspace that `op` needs for images like x (whose data may be NULL), of exec->device (no driver call is
 * made and no device has to be there). grads: the gradients that op will write. 0 for the CPU. */
FUSEDSSIM_API fusedssim_status fusedssim_workspace_size(const fusedssim_params* params, const fusedssim_exec* exec,
                                                        fusedssim_op op, fusedssim_grads grads,
                                                        const fusedssim_tensor* x, size_t* bytes);

/* Bytes that fusedssim_forward() saves for a backward that will write `grads`; 0 where saving does not pay. */
FUSEDSSIM_API fusedssim_status fusedssim_saved_size(const fusedssim_params* params, const fusedssim_exec* exec,
                                                    fusedssim_grads grads, const fusedssim_tensor* x, size_t* bytes);

/* ---- What this library is ---------------------------------------------------------------------------------------- */

/* "major.minor.patch" of the library, which may differ from the header's FUSEDSSIM_VERSION_*. */
FUSEDSSIM_API const char* fusedssim_version(void);

typedef struct fusedssim_info {
    uint32_t struct_size;
    int32_t cuda_built;             /* 1 if CUDA code is in this library */
    const char* cuda_architectures; /* "sm_75 sm_80 ... compute_120" ("" without CUDA); compute_* is PTX */
    const char* cuda_compiler;      /* "NVRTC 12.9" ("" without CUDA) */
    const char* cuda_problem;       /* why CUDA cannot be used, and what to do; "" if it can */
    int32_t cuda_driver_version;    /* the CUDA version of the driver, 12080 for 12.8; 0 without a driver */
    int32_t cuda_device_count;      /* 0 without a driver */
    const char* cpu_isa;            /* the instruction set in use: "avx512", "avx2", "baseline" */
    int32_t cpu_threads;            /* what exec->cpu_threads = 0 means here */
    int32_t reserved;
} fusedssim_info;

/* Fills *info, whose struct_size the caller has set. Loads the CUDA driver if there is one. The strings live as long
 * as the library. */
FUSEDSSIM_API fusedssim_status fusedssim_get_info(fusedssim_info* info);

typedef struct fusedssim_cuda_device_info {
    uint32_t struct_size;
    int32_t compute_capability; /* 90 for 9.0 */
    int32_t multiprocessors;
    int32_t usable; /* 1 if this library has code for it */
    uint64_t memory_bytes;
    char name[256];
} fusedssim_cuda_device_info;

/* Fills *info (whose struct_size the caller has set) for the CUDA device of that ordinal. */
FUSEDSSIM_API fusedssim_status fusedssim_get_cuda_device_info(int32_t device_id, fusedssim_cuda_device_info* info);

#ifdef __cplusplus
}
#endif

#endif /* FUSEDSSIM_FUSEDSSIM_H */
