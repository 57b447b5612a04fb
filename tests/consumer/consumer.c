/* SPDX-License-Identifier: MIT
 *
 * Plain C99: SSIM and its gradient of two small images, compared with facts that need no other SSIM code. */
#include <fusedssim/fusedssim.h>

#include <math.h>
#include <stdio.h>

enum { HEIGHT = 13, WIDTH = 17, ELEMENTS = HEIGHT * WIDTH };

static int failures = 0;

static void expect(int condition, const char* fact) {
    if (!condition) {
        fprintf(stderr, "not so: %s (last error: \"%s\")\n", fact, fusedssim_last_error());
        failures++;
    }
}

int main(void) {
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    const int64_t shape[4] = {1, 1, HEIGHT, WIDTH};
    float x_data[ELEMENTS], y_data[ELEMENTS], grad_data[ELEMENTS], value;
    const fusedssim_tensor x = fusedssim_contiguous(x_data, FUSEDSSIM_FLOAT32, 4, shape);
    const fusedssim_tensor y = fusedssim_contiguous(y_data, FUSEDSSIM_FLOAT32, 4, shape);
    const fusedssim_tensor grad = fusedssim_contiguous(grad_data, FUSEDSSIM_FLOAT32, 4, shape);
    const fusedssim_tensor out = fusedssim_contiguous(&value, FUSEDSSIM_FLOAT32, 0, NULL);
    const double a = 0.25, b = 0.5, c1 = 1e-4;
    const double numerator = 2 * a * b + c1, denominator = a * a + b * b + c1;
    double grad_sum = 0, largest = 0;
    int i;

    /* An image is identical to itself: exactly 1, and no direction improves on it. */
    for (i = 0; i < ELEMENTS; ++i) x_data[i] = y_data[i] = (float)((i * 37) % 101) / 100;
    expect(fusedssim_value_and_grad(&params, &exec, &x, &y, &out, &grad, NULL) == FUSEDSSIM_OK,
           "value_and_grad of identical images succeeds");
    for (i = 0; i < ELEMENTS; ++i) largest = fabs(grad_data[i]) > largest ? fabs(grad_data[i]) : largest;
    expect(value == 1.0f, "identical images have SSIM 1");
    expect(largest == 0, "identical images have gradient 0");

    /* Two flat images have no contrast: only the luminance (2ab + C1) / (a^2 + b^2 + C1) is left. Moving one of them
     * as a whole changes it by the derivative with respect to a. */
    params.padding = FUSEDSSIM_PADDING_VALID;
    for (i = 0; i < ELEMENTS; ++i) {
        x_data[i] = (float)a;
        y_data[i] = (float)b;
    }
    expect(fusedssim_value_and_grad(&params, &exec, &x, &y, &out, &grad, NULL) == FUSEDSSIM_OK,
           "value_and_grad of flat images succeeds");
    for (i = 0; i < ELEMENTS; ++i) grad_sum += grad_data[i];
    expect(fabs(value - numerator / denominator) < 1e-4, "flat images have the SSIM of their luminance");
    expect(fabs(grad_sum - (2 * b * denominator - 2 * a * numerator) / (denominator * denominator)) < 1e-3,
           "flat images have the gradient of their luminance");

    /* An error is a status and a text, and leaves the result alone. */
    value = 7;
    params.window_size = 15;
    expect(fusedssim_forward(&params, &exec, &x, &y, &out, NULL, 0) == FUSEDSSIM_INVALID_ARGUMENT,
           "a window above the image is refused");
    expect(fusedssim_last_error()[0] != '\0', "the error has a text");
    expect(value == 7, "a call that fails writes nothing");

    if (failures == 0) printf("C: all facts hold, libfusedssim %s\n", fusedssim_version());
    return failures != 0;
}
