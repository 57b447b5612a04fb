/* SPDX-License-Identifier: MIT
 *
 * Plain C on the CPU: the SSIM of two pictures.
 *
 *     compare a.ppm b.ppm
 *
 * Reads binary PGM and PPM files of 8 bits. The pixels stay interleaved as the files have them: the strides say where a
 * channel is. */
#include <fusedssim/fusedssim.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct Picture {
    int channels, width, height;
    float* pixels; /* [H, W, C] */
} Picture;

static int read_number(FILE* file) {
    int c = fgetc(file), number = 0;
    while (c == '#' || isspace(c)) {
        if (c == '#') {
            while (c != '\n' && c != EOF) c = fgetc(file);
        } else {
            c = fgetc(file);
        }
    }
    if (!isdigit(c)) return -1;
    for (; isdigit(c) && number < 100000; c = fgetc(file)) number = 10 * number + (c - '0');
    return number;
}

static int read_picture(const char* path, Picture* picture) {
    FILE* const file = fopen(path, "rb");
    size_t i, size;
    int kind;
    picture->pixels = NULL;
    if (!file) return 0;
    kind = fgetc(file) == 'P' ? fgetc(file) : 0;
    picture->channels = kind == '6' ? 3 : 1;
    picture->width = read_number(file);
    picture->height = read_number(file);
    if ((kind == '5' || kind == '6') && picture->width > 0 && picture->height > 0 && read_number(file) == 255) {
        size = (size_t)picture->channels * (size_t)picture->width * (size_t)picture->height;
        picture->pixels = malloc(size * sizeof *picture->pixels);
        for (i = 0; picture->pixels && i < size; ++i) {
            const int value = fgetc(file);
            if (value == EOF) {
                free(picture->pixels);
                picture->pixels = NULL;
            } else {
                picture->pixels[i] = (float)value;
            }
        }
    }
    fclose(file);
    return picture->pixels != NULL;
}

static fusedssim_tensor tensor_of(const Picture* picture) {
    const int64_t shape[4] = {1, picture->channels, picture->height, picture->width};
    fusedssim_tensor tensor = fusedssim_contiguous(picture->pixels, FUSEDSSIM_FLOAT32, 4, shape);
    tensor.stride[1] = 1;
    tensor.stride[2] = (int64_t)picture->channels * picture->width;
    tensor.stride[3] = picture->channels;
    return tensor;
}

int main(int argc, char** argv) {
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    const fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT; /* the CPU, all cores */
    Picture a = {0, 0, 0, NULL}, b = {0, 0, 0, NULL};
    int failed = 1;

    if (argc != 3) {
        fprintf(stderr, "usage: compare a.ppm b.ppm\n");
        return 2;
    }
    if (!read_picture(argv[1], &a)) {
        fprintf(stderr, "%s cannot be read: expected a binary PGM or PPM file of 8 bits\n", argv[1]);
    } else if (!read_picture(argv[2], &b)) {
        fprintf(stderr, "%s cannot be read: expected a binary PGM or PPM file of 8 bits\n", argv[2]);
    } else {
        const fusedssim_tensor x = tensor_of(&a), y = tensor_of(&b);
        float value;
        const fusedssim_tensor out = fusedssim_contiguous(&value, FUSEDSSIM_FLOAT32, 0, NULL);
        params.data_range = 255;
        failed = fusedssim_forward(&params, &exec, &x, &y, &out, NULL, 0) != FUSEDSSIM_OK;
        if (failed) {
            fprintf(stderr, "%s\n", fusedssim_last_error()); /* pictures of different sizes, for instance */
        } else {
            printf("SSIM %.6f\n", (double)value);
        }
    }
    free(a.pixels);
    free(b.pixels);
    return failed;
}
