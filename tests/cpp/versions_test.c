/* SPDX-License-Identifier: MIT
 *
 * Programs and libraries of different versions, which struct_size lets work together. `versions_test <group>` runs one
 * group of checks, `versions_test` runs all of them.
 *
 * An older program has shorter structures. Here each structure stands at the very end of a page, and the next page is
 * not accessible: a library that reads or writes past struct_size is killed, and cannot pass by luck. A newer program
 * has longer structures. What an older library does not know of must be zero, or the call is refused. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

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

enum { SIDE = 24, ELEMENTS = SIDE * SIDE };

typedef struct Images {
    fusedssim_tensor x, y, out;
    float x_data[ELEMENTS], y_data[ELEMENTS], value;
} Images;

static void set_up(Images* f) {
    const int64_t shape[4] = {1, 1, SIDE, SIDE};
    int i;
    for (i = 0; i < ELEMENTS; ++i) {
        f->x_data[i] = (float)(i * 37 % 101) / 100;
        f->y_data[i] = (float)(i * 53 % 89) / 88;
    }
    f->value = -123;
    f->x = fusedssim_contiguous(f->x_data, FUSEDSSIM_FLOAT32, 4, shape);
    f->y = fusedssim_contiguous(f->y_data, FUSEDSSIM_FLOAT32, 4, shape);
    f->out = fusedssim_contiguous(&f->value, FUSEDSSIM_FLOAT32, 0, NULL);
}

static const fusedssim_params kParams = FUSEDSSIM_PARAMS_DEFAULT;
static const fusedssim_exec kExec = FUSEDSSIM_EXEC_DEFAULT;

static fusedssim_status forward(const void* params, const void* exec, Images* f) {
    return fusedssim_forward((const fusedssim_params*)params, (const fusedssim_exec*)exec, &f->x, &f->y, &f->out, NULL,
                             0);
}

/* Two pages, of which only the first may be touched. Returns the first byte that may not. */
static char* guard(void) {
#if defined(_WIN32)
    SYSTEM_INFO system;
    char* pages;
    DWORD before;
    size_t page;
    GetSystemInfo(&system);
    page = system.dwPageSize;
    pages = VirtualAlloc(NULL, 2 * page, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
    if (!pages || !VirtualProtect(pages + page, page, PAGE_NOACCESS, &before)) {
        fprintf(stderr, "guard page: error %lu\n", GetLastError());
        exit(1);
    }
    return pages + page;
#else
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char* const pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) != 0) {
        perror("guard page");
        _Exit(1);
    }
    return pages + page;
#endif
}

/* The first `size` bytes of a structure, as a program of an earlier version would have it. */
static void* shortened(char* end, const void* from, uint32_t size) {
    memcpy(end - size, from, size);
    memcpy(end - size, &size, sizeof size);
    return end - size;
}

/* ---- An older program, this library ------------------------------------------------------------------------------ */

static void older_params(void) {
    char* const end = guard();
    Images f;
    float usual;
    uint32_t size;
    fusedssim_params params = kParams;
    set_up(&f);
    CHECK(forward(&kParams, &kExec, &f) == FUSEDSSIM_OK);
    usual = f.value;
    /* structures grow by whole fields of 8 bytes, or pairs of 4 */
    for (size = offsetof(fusedssim_params, sigma); size <= sizeof(fusedssim_params); size += 8) {
        f.value = -123;
        CHECK(forward(shortened(end, &kParams, size), &kExec, &f) == FUSEDSSIM_OK);
        CHECK(f.value == usual);
    }
    /* what the shorter structure does hold is obeyed: here it ends behind the window and sigma */
    params.window_size = 5;
    params.sigma = 0.75;
    CHECK(forward(&params, &kExec, &f) == FUSEDSSIM_OK);
    usual = f.value;
    f.value = -123;
    CHECK(forward(shortened(end, &params, offsetof(fusedssim_params, k1)), &kExec, &f) == FUSEDSSIM_OK);
    CHECK(f.value == usual);
}

static void older_exec(void) {
    char* const end = guard();
    Images f;
    float usual;
    uint32_t size;
    set_up(&f);
    CHECK(forward(&kParams, &kExec, &f) == FUSEDSSIM_OK);
    usual = f.value;
    for (size = offsetof(fusedssim_exec, stream); size <= sizeof(fusedssim_exec); size += 8) {
        f.value = -123;
        CHECK(forward(&kParams, shortened(end, &kExec, size), &f) == FUSEDSSIM_OK);
        CHECK(f.value == usual);
    }
}

/* A tensor has no part that could be left out: it is as long as it ever was, and no byte more is read. */
static void older_tensor(void) {
    char* const end = guard();
    Images f;
    set_up(&f);
    CHECK(fusedssim_forward(&kParams, &kExec, shortened(end, &f.x, sizeof f.x), &f.y, &f.out, NULL, 0) == FUSEDSSIM_OK);
    CHECK(fusedssim_forward(&kParams, &kExec, shortened(end, &f.x, sizeof f.x - 8), &f.y, &f.out, NULL, 0) ==
          FUSEDSSIM_INVALID_ARGUMENT);
}

static void older_ms_params(void) {
    static const fusedssim_ms_params ms = FUSEDSSIM_MS_PARAMS_DEFAULT;
    char* const end = guard();
    Images f;
    size_t bytes = 1;
    set_up(&f);
    CHECK(fusedssim_ms_workspace_size(&kParams, shortened(end, &ms, sizeof ms), &kExec, FUSEDSSIM_GRAD_NONE, &f.x, NULL,
                                      &bytes) == FUSEDSSIM_OK);
    CHECK(bytes == 0);
}

/* Structures that are filled: nothing is written past the end that the program has. */
static void older_info(void) {
    char* const end = guard();
    fusedssim_info full = {0};
    uint32_t size;
    full.struct_size = sizeof full;
    CHECK(fusedssim_get_info(&full) == FUSEDSSIM_OK);
    for (size = offsetof(fusedssim_info, cuda_architectures); size <= sizeof full; size += 8) {
        const fusedssim_info empty = {0};
        fusedssim_info* const info = shortened(end, &empty, size);
        CHECK(fusedssim_get_info(info) == FUSEDSSIM_OK);
        CHECK(info->struct_size == size);
        CHECK(memcmp((const char*)info + 4, (const char*)&full + 4, size - 4) == 0);
    }
}

/* ---- A newer program, this library ------------------------------------------------------------------------------- */

static void newer_params(void) {
    struct {
        fusedssim_params known;
        unsigned char later[64];
    } params;
    Images f;
    float usual;
    size_t i;
    set_up(&f);
    CHECK(forward(&kParams, &kExec, &f) == FUSEDSSIM_OK);
    usual = f.value;
    memset(&params, 0, sizeof params);
    params.known = kParams;
    params.known.struct_size = sizeof params;
    f.value = -123;
    CHECK(forward(&params, &kExec, &f) == FUSEDSSIM_OK);
    CHECK(f.value == usual);
    for (i = 0; i < sizeof params.later; ++i) { /* a wish that this library cannot know, wherever it stands */
        params.later[i] = 1;
        f.value = -123;
        CHECK(forward(&params, &kExec, &f) == FUSEDSSIM_INVALID_ARGUMENT);
        CHECK(strstr(fusedssim_last_error(), "params.struct_size") != NULL);
        CHECK(f.value == -123);
        params.later[i] = 0;
    }
}

static void newer_exec(void) {
    struct {
        fusedssim_exec known;
        unsigned char later[32];
    } exec;
    Images f;
    size_t i;
    set_up(&f);
    memset(&exec, 0, sizeof exec);
    exec.known = kExec;
    exec.known.struct_size = sizeof exec;
    CHECK(forward(&kParams, &exec, &f) == FUSEDSSIM_OK);
    for (i = 0; i < sizeof exec.later; ++i) {
        exec.later[i] = 1;
        CHECK(forward(&kParams, &exec, &f) == FUSEDSSIM_INVALID_ARGUMENT);
        CHECK(strstr(fusedssim_last_error(), "exec.struct_size") != NULL);
        exec.later[i] = 0;
    }
}

static void newer_info(void) {
    struct {
        fusedssim_info known;
        unsigned char later[32];
    } info;
    size_t i;
    memset(&info, 0x5a, sizeof info);
    info.known.struct_size = sizeof info;
    CHECK(fusedssim_get_info(&info.known) == FUSEDSSIM_OK);
    CHECK(info.known.struct_size == sizeof info || info.known.struct_size == sizeof info.known);
    /* what this library does not know is either left alone or zero, never something made up */
    for (i = 0; i < sizeof info.later; ++i) CHECK(info.later[i] == 0x5a || info.later[i] == 0);
}

int main(int argc, char** argv) {
    static const struct {
        const char* name;
        void (*run)(void);
    } groups[] = {
        {"older_params", older_params},       {"older_exec", older_exec}, {"older_tensor", older_tensor},
        {"older_ms_params", older_ms_params}, {"older_info", older_info}, {"newer_params", newer_params},
        {"newer_exec", newer_exec},           {"newer_info", newer_info},
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
        fprintf(stderr, "versions_test: no group %s\n", argv[1]);
        return 2;
    }
    return failures != 0;
}
