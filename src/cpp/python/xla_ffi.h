// SPDX-License-Identifier: MIT
//
// The part of XLA's foreign function interface that xla.cpp needs: no header of XLA is there when this is built.
//
// XLA calls a handler with one pointer to a frame. The layout of the frame and of what hangs on it is a binary
// interface with a version: xla/ffi/api/c_api.h of OpenXLA, version 0.4, which jaxlib ships in jaxlib/include. What
// stands here has the same layout since version 0.1 (checked: jaxlib 0.6.2, 0.8.0, 0.10.2 and 0.11.2). Each structure
// starts with its own size and a list of extensions; later versions add members at the ends, so a size tells whether a
// member is there.
// tests/python/test_jax_ffi.py compares every offset and every number with the header of the jaxlib that is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xla_ffi {

constexpr int kMajor = 0, kMinor = 4;

// Other data than the frame's own, as a linked list.
struct Extension {
    size_t size;
    int32_t kind;
    Extension* next;
};
constexpr int32_t kMetadataExtension = 1;

struct Version {
    size_t size;
    Extension* extensions;
    int major, minor;
};

// What a handler tells about itself. XLA asks when it is registered, by a frame with this extension.
struct Metadata {
    size_t size;
    Version version;  // of the interface that the handler was written for
    uint32_t traits;
};
struct MetadataExtension {
    Extension base;
    Metadata* metadata;
};
// Each call enqueues the same work, so it can be recorded once (in a CUDA graph) and replayed.
constexpr uint32_t kCanBeRecorded = 1;

struct Error;    // known to XLA only
struct Context;  // the same

// Of elements, by number.
constexpr int32_t kBool = 1, kInt16 = 3, kInt32 = 4, kUint8 = 6, kUint16 = 7, kFloat16 = 10, kFloat32 = 11,
                  kFloat64 = 12, kBfloat16 = 16;

struct Buffer {
    size_t size;
    Extension* extensions;
    int32_t dtype;
    void* data;
    int64_t ndim;
    int64_t* shape;  // C-contiguous
};

// The arguments or the results of a call. Each is a Buffer; the kinds say so.
struct Buffers {
    size_t size;
    Extension* extensions;
    int64_t count;
    int32_t* kinds;
    void** items;
};
constexpr int32_t kBufferKind = 1;

struct Text {
    const char* data;
    size_t length;
};
struct Scalar {
    int32_t dtype;
    void* data;
};
struct Array {
    int32_t dtype;
    size_t length;
    void* data;
};

// Constants of a call, sorted by name.
struct Attributes {
    size_t size;
    Extension* extensions;
    int64_t count;
    int32_t* kinds;
    Text** names;
    void** items;
};
constexpr int32_t kArrayKind = 1, kScalarKind = 3, kTextKind = 4;

struct MakeErrorArguments {
    size_t size;
    Extension* extensions;
    const char* message;  // copied
    int32_t code;
};
constexpr int32_t kInvalidArgument = 3, kResourceExhausted = 8, kUnimplemented = 12, kInternal = 13;

struct GetStreamArguments {
    size_t size;
    Extension* extensions;
    Context* context;
    void* stream;  // out
};

struct GetDeviceArguments {
    size_t size;
    Extension* extensions;
    Context* context;
    int32_t device;  // out
};

// What XLA offers to handlers. A function that returns an error gives it away.
struct Api {
    size_t size;
    Extension* extensions;
    Version version;
    const void* internal;
    Error* (*make_error)(MakeErrorArguments*);
    void* get_error_message;
    void* destroy_error;
    void* register_handler;
    Error* (*get_stream)(GetStreamArguments*);
    void* others[12];
    Error* (*get_device)(GetDeviceArguments*);  // not in the first versions
};

struct Frame {
    size_t size;
    Extension* extensions;
    const Api* api;
    Context* context;
    int32_t stage;
    Buffers arguments;
    Buffers results;
    Attributes attributes;
};
constexpr int32_t kExecuteStage = 3;

using Handler = Error*(Frame*);

}  // namespace xla_ffi
