// SPDX-License-Identifier: MIT
//
// The declarations of src/cpp/python/xla_ffi.h against those of the header that jaxlib ships. Compiled by
// tests/python/test_jax_ffi.py where jaxlib is installed; it is never run.
#include <cstddef>
#include <type_traits>

#include "xla/ffi/api/c_api.h"
#include "xla_ffi.h"

// A member of ours has the place and the size of one of theirs, and is a pointer if theirs is.
#define SAME(ours, member, theirs, their_member)                                                                 \
    static_assert(offsetof(xla_ffi::ours, member) == offsetof(theirs, their_member), #ours "::" #member);        \
    static_assert(sizeof(xla_ffi::ours::member) == sizeof(theirs::their_member), #ours "::" #member);            \
    static_assert(                                                                                               \
        std::is_pointer_v<decltype(xla_ffi::ours::member)> == std::is_pointer_v<decltype(theirs::their_member)>, \
        #ours "::" #member)
#define SAME_HEAD(ours, theirs)            \
    SAME(ours, size, theirs, struct_size); \
    SAME(ours, extensions, theirs, extension_start)

// What version 0.4 calls by another name.
#if XLA_FFI_API_MINOR >= 4
using TheirExtension = XLA_FFI_InternalExtension;
#else
using TheirExtension = XLA_FFI_Extension_Base;
#endif

static_assert(XLA_FFI_API_MAJOR == xla_ffi::kMajor, "another major version: every structure may differ");

SAME(Extension, size, TheirExtension, struct_size);
SAME(Extension, kind, TheirExtension, type);
SAME(Extension, next, TheirExtension, next);
static_assert(sizeof(xla_ffi::Extension) == sizeof(TheirExtension));
static_assert(xla_ffi::kMetadataExtension == XLA_FFI_Extension_Metadata);

SAME_HEAD(Version, XLA_FFI_Api_Version);
SAME(Version, major, XLA_FFI_Api_Version, major_version);
SAME(Version, minor, XLA_FFI_Api_Version, minor_version);
static_assert(sizeof(xla_ffi::Version) == sizeof(XLA_FFI_Api_Version));

SAME(Metadata, size, XLA_FFI_Metadata, struct_size);
SAME(Metadata, version, XLA_FFI_Metadata, api_version);
SAME(Metadata, traits, XLA_FFI_Metadata, traits);
SAME(MetadataExtension, base, XLA_FFI_Metadata_Extension, extension_base);
SAME(MetadataExtension, metadata, XLA_FFI_Metadata_Extension, metadata);
static_assert(xla_ffi::kCanBeRecorded == XLA_FFI_HANDLER_TRAITS_COMMAND_BUFFER_COMPATIBLE);

static_assert(xla_ffi::kBool == XLA_FFI_DataType_PRED);
static_assert(xla_ffi::kFloat16 == XLA_FFI_DataType_F16);
static_assert(xla_ffi::kFloat32 == XLA_FFI_DataType_F32);
static_assert(xla_ffi::kFloat64 == XLA_FFI_DataType_F64);
static_assert(xla_ffi::kBfloat16 == XLA_FFI_DataType_BF16);
static_assert(xla_ffi::kInt16 == XLA_FFI_DataType_S16);
static_assert(xla_ffi::kInt32 == XLA_FFI_DataType_S32);
static_assert(xla_ffi::kUint8 == XLA_FFI_DataType_U8);
static_assert(xla_ffi::kUint16 == XLA_FFI_DataType_U16);

SAME_HEAD(Buffer, XLA_FFI_Buffer);
SAME(Buffer, dtype, XLA_FFI_Buffer, dtype);
SAME(Buffer, data, XLA_FFI_Buffer, data);
SAME(Buffer, ndim, XLA_FFI_Buffer, rank);
SAME(Buffer, shape, XLA_FFI_Buffer, dims);

SAME_HEAD(Buffers, XLA_FFI_Args);
SAME(Buffers, count, XLA_FFI_Args, size);
SAME(Buffers, kinds, XLA_FFI_Args, types);
SAME(Buffers, items, XLA_FFI_Args, args);
static_assert(sizeof(xla_ffi::Buffers) == sizeof(XLA_FFI_Args));
SAME_HEAD(Buffers, XLA_FFI_Rets);
SAME(Buffers, count, XLA_FFI_Rets, size);
SAME(Buffers, kinds, XLA_FFI_Rets, types);
SAME(Buffers, items, XLA_FFI_Rets, rets);
static_assert(sizeof(xla_ffi::Buffers) == sizeof(XLA_FFI_Rets));
static_assert(xla_ffi::kBufferKind == XLA_FFI_ArgType_BUFFER);
static_assert(xla_ffi::kBufferKind == XLA_FFI_RetType_BUFFER);

SAME(Text, data, XLA_FFI_ByteSpan, ptr);
SAME(Text, length, XLA_FFI_ByteSpan, len);
SAME(Scalar, dtype, XLA_FFI_Scalar, dtype);
SAME(Scalar, data, XLA_FFI_Scalar, value);
SAME(Array, dtype, XLA_FFI_Array, dtype);
SAME(Array, length, XLA_FFI_Array, size);
SAME(Array, data, XLA_FFI_Array, data);

SAME_HEAD(Attributes, XLA_FFI_Attrs);
SAME(Attributes, count, XLA_FFI_Attrs, size);
SAME(Attributes, kinds, XLA_FFI_Attrs, types);
SAME(Attributes, names, XLA_FFI_Attrs, names);
SAME(Attributes, items, XLA_FFI_Attrs, attrs);
static_assert(sizeof(xla_ffi::Attributes) == sizeof(XLA_FFI_Attrs));
static_assert(xla_ffi::kArrayKind == XLA_FFI_AttrType_ARRAY);
static_assert(xla_ffi::kScalarKind == XLA_FFI_AttrType_SCALAR);
static_assert(xla_ffi::kTextKind == XLA_FFI_AttrType_STRING);

SAME_HEAD(MakeErrorArguments, XLA_FFI_Error_Create_Args);
SAME(MakeErrorArguments, message, XLA_FFI_Error_Create_Args, message);
SAME(MakeErrorArguments, code, XLA_FFI_Error_Create_Args, errc);
static_assert(xla_ffi::kInvalidArgument == XLA_FFI_Error_Code_INVALID_ARGUMENT);
static_assert(xla_ffi::kResourceExhausted == XLA_FFI_Error_Code_RESOURCE_EXHAUSTED);
static_assert(xla_ffi::kUnimplemented == XLA_FFI_Error_Code_UNIMPLEMENTED);
static_assert(xla_ffi::kInternal == XLA_FFI_Error_Code_INTERNAL);

SAME_HEAD(GetStreamArguments, XLA_FFI_Stream_Get_Args);
SAME(GetStreamArguments, context, XLA_FFI_Stream_Get_Args, ctx);
SAME(GetStreamArguments, stream, XLA_FFI_Stream_Get_Args, stream);
SAME_HEAD(GetDeviceArguments, XLA_FFI_DeviceOrdinal_Get_Args);
SAME(GetDeviceArguments, context, XLA_FFI_DeviceOrdinal_Get_Args, ctx);
SAME(GetDeviceArguments, device, XLA_FFI_DeviceOrdinal_Get_Args, device_ordinal);

SAME_HEAD(Api, XLA_FFI_Api);
SAME(Api, version, XLA_FFI_Api, api_version);
SAME(Api, internal, XLA_FFI_Api, internal_api);
SAME(Api, make_error, XLA_FFI_Api, XLA_FFI_Error_Create);
SAME(Api, get_stream, XLA_FFI_Api, XLA_FFI_Stream_Get);
SAME(Api, get_device, XLA_FFI_Api, XLA_FFI_DeviceOrdinal_Get);

SAME_HEAD(Frame, XLA_FFI_CallFrame);
SAME(Frame, api, XLA_FFI_CallFrame, api);
SAME(Frame, context, XLA_FFI_CallFrame, ctx);
SAME(Frame, stage, XLA_FFI_CallFrame, stage);
SAME(Frame, arguments, XLA_FFI_CallFrame, args);
SAME(Frame, results, XLA_FFI_CallFrame, rets);
SAME(Frame, attributes, XLA_FFI_CallFrame, attrs);
static_assert(xla_ffi::kExecuteStage == XLA_FFI_ExecutionStage_EXECUTE);
