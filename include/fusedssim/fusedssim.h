/* SPDX-License-Identifier: MIT
 *
 * libfusedssim: structural similarity (SSIM) and its gradient, fused, in 2D and 3D, on the CPU and on CUDA.
 *
 * This header is the whole public interface and its manual. It is C99, includes nothing of CUDA, and stays
 * binary compatible within one SOVERSION. "Since 0.1" is the version of this library that first had a function.
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
 * This equals the formula of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
 * structural similarity" (2004), but loses far less to rounding: identical images give exactly 1, and no result exceeds
 * 1.
 *
 *
 * Which call do I want?
 * ---------------------
 *     the value (or the map), no gradient                     fusedssim_forward(), saved = NULL
 *     the value and its gradient at once, as in training      fusedssim_value_and_grad()
 *       ... times a factor that is known later                then fusedssim_scale()
 *     the gradient for any grad_out, known later              fusedssim_forward(), then fusedssim_backward()
 *       ... of volumes on CUDA, faster with more memory       the same, with fusedssim_saved_size() bytes as saved
 *                                                             (0 bytes, that is none, for volumes of 2^27 elements)
 *     MS-SSIM, without or with its gradient                   fusedssim_ms_forward(), fusedssim_ms_value_and_grad()
 *     on CUDA, how much workspace a call needs                fusedssim_workspace_size(), fusedssim_ms_workspace_size()
 *     why a call failed                                       fusedssim_last_error()
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
 * The same on CUDA, with the gradient by x. All pointers are to device memory; `stream` is a cudaStream_t:
 *
 *     fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
 *     exec.device = FUSEDSSIM_CUDA;
 *     exec.stream = stream;
 *     size_t bytes;
 *     fusedssim_workspace_size(&params, &exec, FUSEDSSIM_OP_VALUE_AND_GRAD, FUSEDSSIM_GRAD_X, &x, &y, &bytes);
 *     cudaMallocAsync(&exec.workspace, bytes, stream);           // or memory that is kept from call to call
 *     exec.workspace_bytes = bytes;
 *     fusedssim_value_and_grad(&params, &exec, &x, &y, &out, &grad_x, NULL);  // returns at once
 *     cudaFreeAsync(exec.workspace, stream);
 *
 *
 * Rules that hold for every call
 * ------------------------------
 * - Everything is checked before anything is launched or written: a call that fails has changed nothing. (The one
 *   exception is FUSEDSSIM_CUDA_ERROR from a launch after the first.)
 * - On CUDA, work is enqueued on exec->stream of exec->device_id and the call returns at once. It can be captured into
 *   a CUDA graph. The library allocates no device memory and never synchronises. Memory that it needs beyond the
 *   arguments is exec->workspace; fusedssim_workspace_size() tells its size. On the CPU the call returns when the
 *   result is there. MS-SSIM then leaves up to 64 MB of host memory in the process, for the next call that needs it.
 * - Strides are in elements, and any are accepted without a copy: channels-last, slices, transposes, zero strides of
 *   broadcast inputs. Outputs must not overlap themselves, each other, an input or the workspace. The library rejects
 *   identical data pointers, and output strides that might map two elements to one address. It does not detect other
 *   overlaps; avoiding them is up to you.
 * - Arithmetic is float64 for float64 images or params->arithmetic = FUSEDSSIM_FLOAT64, else float32. Sums run in a
 *   fixed order: the same call gives the same bits.
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

/* A short English name of a status, such as "invalid argument". Never NULL. Since 0.1. */
FUSEDSSIM_API const char* fusedssim_status_string(fusedssim_status status);

/* The text of this thread's last failed call: the argument, its value and what was expected, for instance
 *     x.shape[2] = 7 < window 11 (padding valid)
 * Empty if no call of this thread has failed. Valid until this thread's next failing call. Since 0.1. */
FUSEDSSIM_API const char* fusedssim_last_error(void);

/* The same text with other names for the arguments: for a binding whose callers know x as img1.
 *
 * names: pairs of a name in this header and the one to print, ended by NULL. A field is named with its structure, as in
 * params.sigma. A first name that ends with a dot stands for every name that begins with it. The first pair that fits
 * counts; a name without a pair, or any name if names is NULL, is printed as it stands. With
 *     const char* names[] = {"x", "img1", "params.k1", "K[0]", "params.", "", NULL};
 * "params.sigma = -1, expected ..." becomes "sigma = -1, expected ...".
 *
 * Never NULL. Valid until this thread's next call of this function, whatever else the thread calls; names is not kept.
 * Since 0.1. */
FUSEDSSIM_API const char* fusedssim_last_error_as(const char* const* names);

/* ---- Arguments --------------------------------------------------------------------------------------------------- */

/* Every structure starts with struct_size, which is sizeof(the structure); the *_DEFAULT initialisers set it. So
 * programs built with one version of this header work with another version of the library. Fields that a shorter
 * structure lacks have their defaults. A longer structure is accepted if all fields that this library does not know are
 * zero. */

typedef int32_t fusedssim_dtype;
enum {
    FUSEDSSIM_FLOAT32 = 0,
    FUSEDSSIM_FLOAT64 = 1,
    FUSEDSSIM_FLOAT16 = 2, /* IEEE binary16 */
    FUSEDSSIM_BFLOAT16 = 3,
    FUSEDSSIM_BOOL = 4, /* one byte, any value but 0 is true; for masks only */
    FUSEDSSIM_UINT8 = 5,
    FUSEDSSIM_UINT16 = 6,
    FUSEDSSIM_INT16 = 7 /* such as the Hounsfield units of a CT */
};

/* Dtypes that follow from that of the images; -1 if images cannot have it. Since 0.1. */
#ifdef __cplusplus
#define FUSEDSSIM_INLINE static constexpr
#else
#define FUSEDSSIM_INLINE static inline
#endif

/* The dtype of the arithmetic, and with it of `out`, `grad_out` and masks of weights: float64 for float64, else
 * float32. (params->arithmetic can raise it to float64.) */
FUSEDSSIM_INLINE fusedssim_dtype fusedssim_arithmetic_dtype(fusedssim_dtype images) {
    return images == FUSEDSSIM_FLOAT64    ? FUSEDSSIM_FLOAT64
           : images == FUSEDSSIM_FLOAT32  ? FUSEDSSIM_FLOAT32
           : images == FUSEDSSIM_FLOAT16  ? FUSEDSSIM_FLOAT32
           : images == FUSEDSSIM_BFLOAT16 ? FUSEDSSIM_FLOAT32
           : images == FUSEDSSIM_UINT8    ? FUSEDSSIM_FLOAT32
           : images == FUSEDSSIM_UINT16   ? FUSEDSSIM_FLOAT32
           : images == FUSEDSSIM_INT16    ? FUSEDSSIM_FLOAT32
                                          : -1;
}
/* The dtype of the gradient by an image: that of the image. -1 for integers, which have none but on the CPU, where it
 * is that of the arithmetic. */
FUSEDSSIM_INLINE fusedssim_dtype fusedssim_grad_dtype(fusedssim_dtype image) {
    return image >= FUSEDSSIM_FLOAT32 && image <= FUSEDSSIM_BFLOAT16 ? image : -1;
}

#define FUSEDSSIM_MAX_NDIM 5

/* An array in memory. Images have 4 axes [N, C, H, W], volumes 5 [N, C, D, H, W]. A plane is one of the N * C images or
 * volumes. data may be NULL only where a function's description says so. */
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

/* What windows see beyond the border of an image, shown for a row a b c d.
 *
 *     SAME         0 0 0 | a b c d | 0 0 0    zeros: fused-ssim and 3DGS
 *     REFLECT      d c b | a b c d | c b a    the edge once: torch, torchmetrics, kornia, OpenCV, numpy's "reflect"
 *     SYMMETRIC    c b a | a b c d | d c b    the edge twice: what scipy and scikit-image call reflect
 *     REPLICATE    a a a | a b c d | d d d    scipy's "nearest"
 *     VALID        the map has only positions whose windows lie wholly inside the image: it lacks half a window,
 *                  rounded down, at each end of each spatial axis
 *
 * But for VALID the map has the size of the images. An image may be smaller than a window: mirrors go on as often as
 * needed. A normalised mask is continued like the images; for SAME, what lies beyond has no weight. */
typedef int32_t fusedssim_padding;
enum {
    FUSEDSSIM_PADDING_SAME = 0,
    FUSEDSSIM_PADDING_VALID = 1,
    FUSEDSSIM_PADDING_REFLECT = 2,
    FUSEDSSIM_PADDING_SYMMETRIC = 3,
    FUSEDSSIM_PADDING_REPLICATE = 4
};

/* How the map becomes `out`. The shape of `out` follows from it. */
typedef int32_t fusedssim_reduction;
enum {
    FUSEDSSIM_REDUCTION_MEAN = 0,      /* one number; out has no axes */
    FUSEDSSIM_REDUCTION_SUM = 1,       /* one number; out has no axes */
    FUSEDSSIM_REDUCTION_PER_IMAGE = 2, /* means over C and the spatial axes; out is [N] */
    FUSEDSSIM_REDUCTION_PER_PLANE = 3, /* means over the spatial axes; out is [N, C] */
    FUSEDSSIM_REDUCTION_NONE = 4       /* the map itself; out is [N, C, (D,) H, W], smaller for padding VALID */
};

/* What is reduced.
 *
 * SSIM: the map of SSIM. LOSS: (1 - lambda_dssim) |x - y| + lambda_dssim (1 - SSIM), the loss of photometric
 * reconstruction (H. Zhao, O. Gallo, I. Frosio and J. Kautz, "Loss functions for image restoration with neural
 * networks", 2017), in one pass over memory. |x - y| is averaged (or summed) over all elements, 1 - SSIM over the map.
 * For padding VALID the map is smaller, so REDUCTION_NONE then needs lambda_dssim = 1. The value keeps its precision
 * near 0; 1 - SSIM, computed from an SSIM near 1, would not. Where x = y, |x - y| has the derivative 0. */
typedef int32_t fusedssim_objective;
enum { FUSEDSSIM_OBJECTIVE_SSIM = 0, FUSEDSSIM_OBJECTIVE_LOSS = 1 };

/* How a mask is used. Below, m is the mask's value at a position.
 *
 * WEIGHT: the mask weighs each map element (and |x - y|). A mean is sum(m SSIM) / sum(m), a sum is sum(m SSIM), and
 * REDUCTION_NONE gives m SSIM. The sums run over a group of the reduction, over the positions that the padding keeps.
 * Windows still see masked-out elements. NORMALIZED: the same, but the statistics ignore masked-out elements
 * (normalised convolution). With W = G*m, the mass of a window, mu_s = G*(m s) / W, var_s = G*(m s^2) / W - mu_s^2, and
 * so on. For padding SAME, positions beyond the border count as masked out: windows at the border then see only
 * elements of the image, and no zeros. A mask of ones changes nothing for the other paddings.
 *
 * What has a weight of 0 is never looked at: a map element, an |x - y|, and what they give to a gradient. NaN, infinity
 * or garbage there changes no bit of the result. In mode NORMALIZED that holds for every element under a mask of 0. In
 * mode WEIGHT it holds for elements that no window of a map element with another weight sees. (On CUDA such a window
 * reaches 5 elements in each direction, or 16 if it is wider than 11.)
 *
 * Weights are finite and not negative. On the CPU, others are an error. On CUDA, a weight that is negative or NaN
 * counts as 0. A mean over a mask of zeros is NaN. No gradient reaches a mask. */
typedef int32_t fusedssim_mask_mode;
enum { FUSEDSSIM_MASK_WEIGHT = 0, FUSEDSSIM_MASK_NORMALIZED = 1 };

#define FUSEDSSIM_MAX_WINDOW_SIZE 33

/* What to compute. */
typedef struct fusedssim_params {
    uint32_t struct_size;
    fusedssim_padding padding;
    fusedssim_reduction reduction;
    int32_t window_size; /* taps per axis: odd, 1 to FUSEDSSIM_MAX_WINDOW_SIZE */
    double sigma;        /* of the Gaussian, in elements: > 0; not used if there are taps */
    double k1, k2;       /* of C1 and C2: >= 0. With 0, a 0 / 0 counts as 1: identical flat images give 1 */
    double data_range;   /* L, the largest value minus the smallest that an image can have: > 0, and its square is
                            within the arithmetic. See data_ranges */
    double grad_scale;   /* multiplies every gradient that is written; a loss scale for float16, whose gradients of a
                            mean would underflow. Finite. */
    fusedssim_objective objective;
    fusedssim_mask_mode mask_mode;
    double lambda_dssim;                 /* of OBJECTIVE_LOSS: 0 to 1 */
    const struct fusedssim_tensor* mask; /* NULL: none. As many axes as x, each as long as that of x or 1, which stands
                                            for all; FUSEDSSIM_BOOL, or the dtype of the arithmetic */
    const double* taps;                  /* NULL: a Gaussian. Otherwise window_size taps, the same along each axis: not
                                            negative, symmetric, and with a sum of 1 (within 1e-4; used as they are) */
    /* NULL: data_range holds for all images. Otherwise L for each image, in place of data_range, which is then ignored:
     * no axes or [N], of the dtype of the arithmetic, in memory like that of x, and read on the device. A range that is
     * not a positive number is an error on the CPU; on CUDA, its image has the value NaN. No gradient reaches it. */
    const struct fusedssim_tensor* data_ranges;
    /* FLOAT32: the arithmetic that the dtypes of the images want. FLOAT64: float64 for all. */
    fusedssim_dtype arithmetic;
    /* 1: variances and covariance of a window of n elements are multiplied by n / (n - 1), as scikit-image does by
     * default. This equals a C2 divided by that factor. Not with a mask that normalises. 0: they are not. */
    int32_t sample_covariance;
    /* Windows that differ between the axes [D, H, W]; an image has no first axis. axis_window_size: 0 for window_size.
     * axis_sigma: 0 for sigma. axis_taps: NULL for `taps`, or for a Gaussian if the axis has a size or sigma of its
     * own. What is said of window_size, sigma and taps holds for each. */
    int32_t axis_window_size[3];
    int32_t reserved; /* 0 */
    double axis_sigma[3];
    const double* axis_taps[3];
    /* An element of an image of integers stands for its number times this: 1 / 255 for a uint8 target whose prediction
     * is in [0, 1]. > 0; only 1 for images of another dtype. */
    double x_scale, y_scale;
    /* In every gradient, derivatives by variances and covariance are multiplied by this: 0 to 1, and 0 stands for 1.
     * The gradient of scikit-image lacks the factor n / (n - 1) of the sample covariance there: (n - 1) / n with
     * sample_covariance = 1 gives it. The value is the same: gradients are its derivatives only if this is 1. */
    double variance_grad_scale;
} fusedssim_params;

#define FUSEDSSIM_PARAMS_DEFAULT \
    {sizeof(fusedssim_params),   \
     FUSEDSSIM_PADDING_SAME,     \
     FUSEDSSIM_REDUCTION_MEAN,   \
     11,                         \
     1.5,                        \
     0.01,                       \
     0.03,                       \
     1.0,                        \
     1.0,                        \
     FUSEDSSIM_OBJECTIVE_SSIM,   \
     FUSEDSSIM_MASK_WEIGHT,      \
     0.2,                        \
     NULL,                       \
     NULL,                       \
     NULL,                       \
     FUSEDSSIM_FLOAT32,          \
     0,                          \
     {0, 0, 0},                  \
     0,                          \
     {0, 0, 0},                  \
     {NULL, NULL, NULL},         \
     1.0,                        \
     1.0,                        \
     0}

typedef int32_t fusedssim_device;
enum { FUSEDSSIM_CPU = 0, FUSEDSSIM_CUDA = 1 };

/* Where and how to compute. */
typedef struct fusedssim_exec {
    uint32_t struct_size;
    fusedssim_device device;
    int32_t device_id;   /* CUDA: ordinal of the device. If a context of that device is current it is used, otherwise
                            the device's primary context, and the current context is as before afterwards. */
    int32_t cpu_threads; /* CPU: threads at the most, the calling one included; 0: one for each core that the calling
                            thread may run on, but no more than the environment's OMP_NUM_THREADS */
    void* stream;        /* CUDA: a CUstream / cudaStream_t; NULL is the default stream */
    void* workspace;     /* CUDA: device memory, aligned to 16 bytes, free for this call until it has run */
    uint64_t workspace_bytes;
} fusedssim_exec;

#define FUSEDSSIM_EXEC_DEFAULT {sizeof(fusedssim_exec), FUSEDSSIM_CPU, 0, 0, NULL, NULL, 0}

/* ---- SSIM: the three operations ---------------------------------------------------------------------------------- */

/* x and y must agree in shape, and in dtype, unless one of them or both are of integers. `out` and `grad_out` have the
 * dtype of the arithmetic, `grad_x` the dtype and shape of x, `grad_y` those of y. On the CPU alone there is a gradient
 * by an image of integers: that by what its elements stand for, which has the dtype of the arithmetic. */

/* Which gradients: a bit set. */
typedef uint32_t fusedssim_grads;
enum { FUSEDSSIM_GRAD_NONE = 0, FUSEDSSIM_GRAD_X = 1, FUSEDSSIM_GRAD_Y = 2 };

/* out = SSIM of x and y (or the loss), reduced as params says.
 *
 * saved: NULL, or memory of exactly fusedssim_saved_size() bytes (on the device of x, aligned to 16 bytes). It is
 * filled for a later fusedssim_backward(), which then need not recompute the statistics. If the size is 0 (on the CPU,
 * for all images, and for large volumes), saving would not be faster or would take too much memory: pass NULL, and
 * prefer fusedssim_value_and_grad() if you need the gradient. Since 0.1. */
FUSEDSSIM_API fusedssim_status fusedssim_forward(const fusedssim_params* params, const fusedssim_exec* exec,
                                                 const fusedssim_tensor* x, const fusedssim_tensor* y,
                                                 const fusedssim_tensor* out, void* saved, size_t saved_bytes);

/* out as in fusedssim_forward(); grad_x and grad_y are the gradients of the sum of out's elements, times
 * params->grad_scale. Either gradient may be NULL, but not both; out may be NULL. Since 0.1. */
FUSEDSSIM_API fusedssim_status fusedssim_value_and_grad(const fusedssim_params* params, const fusedssim_exec* exec,
                                                        const fusedssim_tensor* x, const fusedssim_tensor* y,
                                                        const fusedssim_tensor* out, const fusedssim_tensor* grad_x,
                                                        const fusedssim_tensor* grad_y);

/* grad_x and grad_y are the gradients of sum(grad_out * out), times params->grad_scale. grad_out has the shape that
 * the reduction gives `out`; it is read on the device. Either gradient may be NULL, but not both.
 *
 * saved: NULL, or what fusedssim_forward() filled for the same params, and the same x and y with the same strides (the
 * maps are in the order that the images have in memory); saved_bytes is exactly the fusedssim_saved_size() of the
 * gradients it was filled for: these, or both. Since 0.1. */
FUSEDSSIM_API fusedssim_status fusedssim_backward(const fusedssim_params* params, const fusedssim_exec* exec,
                                                  const fusedssim_tensor* x, const fusedssim_tensor* y,
                                                  const void* saved, size_t saved_bytes,
                                                  const fusedssim_tensor* grad_out, const fusedssim_tensor* grad_x,
                                                  const fusedssim_tensor* grad_y);

/* grad *= factor * scale, in place. `scale` is read on the device and has no axes, or is [N] or [N, C], where N and C
 * are the first axes of grad. This makes the gradient of fusedssim_backward() of the one that
 * fusedssim_value_and_grad() wrote. If the product is 1, as in the common case grad_out = 1, memory is not touched, and
 * the call costs nearly nothing. Since 0.1. */
FUSEDSSIM_API fusedssim_status fusedssim_scale(const fusedssim_exec* exec, double factor, const fusedssim_tensor* scale,
                                               const fusedssim_tensor* grad);

/* ---- MS-SSIM ----------------------------------------------------------------------------------------------------- */

#define FUSEDSSIM_MAX_LEVELS 8

/* The levels of multi-scale SSIM: Z. Wang, E. P. Simoncelli and A. C. Bovik, "Multi-scale structural similarity for
 * image quality assessment" (2003). With cs = 1 - 2 var_d / (var_s + var_d + 2 C2), contrast and structure, a plane has
 *
 *     MS-SSIM = prod_i max(mean cs_i, 0)^weights[i] * max(mean SSIM_last, 0)^weights[last]
 *
 * where i runs over all levels but the last. Level i + 1 has the images of level i, averaged over blocks of 2 elements
 * along each spatial axis; an axis of odd size gets a zero in front first. */
typedef struct fusedssim_ms_params {
    uint32_t struct_size;
    int32_t levels; /* 1 to FUSEDSSIM_MAX_LEVELS */
    double weights[FUSEDSSIM_MAX_LEVELS];
} fusedssim_ms_params;

#define FUSEDSSIM_MS_PARAMS_DEFAULT {sizeof(fusedssim_ms_params), 5, {0.0448, 0.2856, 0.3001, 0.2363, 0.1333, 0, 0, 0}}

/* MS-SSIM and its gradients, as fusedssim_forward() and fusedssim_value_and_grad(). MEAN and SUM are over all planes,
 * PER_IMAGE is the mean over C. params: no mask, OBJECTIVE_SSIM, any reduction but NONE. For padding VALID each spatial
 * axis of x has more than (window_size - 1) 2^(levels - 1) elements. If max(., 0) makes a level 0, the plane's value
 * and gradient are 0, unless its weight is 0: a level without a weight counts as 1. NaN stays NaN. Both since 0.1. */
FUSEDSSIM_API fusedssim_status fusedssim_ms_forward(const fusedssim_params* params, const fusedssim_ms_params* ms,
                                                    const fusedssim_exec* exec, const fusedssim_tensor* x,
                                                    const fusedssim_tensor* y, const fusedssim_tensor* out);
FUSEDSSIM_API fusedssim_status fusedssim_ms_value_and_grad(const fusedssim_params* params,
                                                           const fusedssim_ms_params* ms, const fusedssim_exec* exec,
                                                           const fusedssim_tensor* x, const fusedssim_tensor* y,
                                                           const fusedssim_tensor* out, const fusedssim_tensor* grad_x,
                                                           const fusedssim_tensor* grad_y);

/* ---- Sizes ------------------------------------------------------------------------------------------------------- */

typedef int32_t fusedssim_op;
enum {
    FUSEDSSIM_OP_FORWARD = 0,
    FUSEDSSIM_OP_VALUE_AND_GRAD = 1,
    FUSEDSSIM_OP_BACKWARD = 2,      /* with saved = NULL */
    FUSEDSSIM_OP_BACKWARD_SAVED = 3 /* with saved maps */
};

/* Bytes of workspace that `op` needs on exec->device for images like x and y: of these shapes, dtypes and strides.
 * Their data may be NULL. y: NULL if it is like x. grads: the gradients that op will write. 0 for the CPU.
 *
 * Kilobytes for values, and for gradients of images with the usual arguments: both of one dtype, zeros beyond the
 * border or padding VALID, windows up to 11 taps, no mask that normalises. Three images of the arithmetic's dtype for
 * gradients of images with other arguments, and for one gradient of volumes; four for both of volumes; but at most 0.6
 * images for volumes of 2^27 elements and more (of planes of at least 256 rows, or of many planes).
 *
 * No driver call is made, and no device has to be there. Since 0.1. */
FUSEDSSIM_API fusedssim_status fusedssim_workspace_size(const fusedssim_params* params, const fusedssim_exec* exec,
                                                        fusedssim_op op, fusedssim_grads grads,
                                                        const fusedssim_tensor* x, const fusedssim_tensor* y,
                                                        size_t* bytes);

/* The same for fusedssim_ms_forward() (grads: FUSEDSSIM_GRAD_NONE) and fusedssim_ms_value_and_grad(). Since 0.1. */
FUSEDSSIM_API fusedssim_status fusedssim_ms_workspace_size(const fusedssim_params* params,
                                                           const fusedssim_ms_params* ms, const fusedssim_exec* exec,
                                                           fusedssim_grads grads, const fusedssim_tensor* x,
                                                           const fusedssim_tensor* y, size_t* bytes);

/* Bytes that fusedssim_forward() saves for a backward that will write `grads`, for images like x and y as above; 0 if
 * saving would not be faster, or if it would take too much memory: for volumes of 2^27 = 512^3 elements and more, all
 * planes together. Since 0.1. */
FUSEDSSIM_API fusedssim_status fusedssim_saved_size(const fusedssim_params* params, const fusedssim_exec* exec,
                                                    fusedssim_grads grads, const fusedssim_tensor* x,
                                                    const fusedssim_tensor* y, size_t* bytes);

/* ---- What this library is ---------------------------------------------------------------------------------------- */

/* "major.minor.patch" of the library, which may differ from the header's FUSEDSSIM_VERSION_*. Since 0.1. */
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
 * as the library. Since 0.1. */
FUSEDSSIM_API fusedssim_status fusedssim_get_info(fusedssim_info* info);

typedef struct fusedssim_cuda_device_info {
    uint32_t struct_size;
    int32_t compute_capability; /* 90 for 9.0 */
    int32_t multiprocessors;
    int32_t usable; /* 1 if this library has code for it */
    uint64_t memory_bytes;
    char name[256];
} fusedssim_cuda_device_info;

/* Fills *info, whose struct_size the caller has set, for the CUDA device of that ordinal. Since 0.1. */
FUSEDSSIM_API fusedssim_status fusedssim_get_cuda_device_info(int32_t device_id, fusedssim_cuda_device_info* info);

#ifdef __cplusplus
}
#endif

#endif /* FUSEDSSIM_FUSEDSSIM_H */
