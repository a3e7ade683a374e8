#include "ffi.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool is_metadata_query(const XLA_FFI_CallFrame *frame) {
  return frame->extension_start != NULL && frame->extension_start->type == XLA_FFI_Extension_Metadata;
}

XLA_FFI_Error *answer_metadata_query(const XLA_FFI_CallFrame *frame) {
  XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
  metadata->api_version = (XLA_FFI_Api_Version){
      .struct_size = XLA_FFI_Api_Version_STRUCT_SIZE,
      .major_version = XLA_FFI_API_MAJOR,
      .minor_version = XLA_FFI_API_MINOR,
  };
  metadata->traits = 0;
  return NULL;
}

const XLA_FFI_Buffer *argument(const XLA_FFI_CallFrame *frame, int index) { return frame->args.args[index]; }

const XLA_FFI_Buffer *result(const XLA_FFI_CallFrame *frame, int index) { return frame->rets.rets[index]; }

static const void *attribute(const XLA_FFI_CallFrame *frame, const char *name, XLA_FFI_DataType dtype) {
  const XLA_FFI_Attrs *attributes = &frame->attrs;
  for (int64_t i = 0; i < attributes->size; i++) {
    const XLA_FFI_ByteSpan *span = attributes->names[i];
    if (span->len != strlen(name) || memcmp(span->ptr, name, span->len) != 0) continue;
    const XLA_FFI_Scalar *scalar = attributes->attrs[i];
    return attributes->types[i] == XLA_FFI_AttrType_SCALAR && scalar->dtype == dtype ? scalar->value : NULL;
  }
  return NULL;
}

float float_attribute(const XLA_FFI_CallFrame *frame, const char *name) {
  const float *value = attribute(frame, name, XLA_FFI_DataType_F32);
  return value ? *value : NAN;
}

int64_t int_attribute(const XLA_FFI_CallFrame *frame, const char *name) {
  const int64_t *value = attribute(frame, name, XLA_FFI_DataType_S64);
  return value ? *value : INT64_MIN;
}

XLA_FFI_Error *invalid(const XLA_FFI_CallFrame *frame, const char *format, ...) {
  char message[256];
  va_list values;
  va_start(values, format);
  vsnprintf(message, sizeof message, format, values);
  va_end(values);
  XLA_FFI_Error_Create_Args args = {
      .struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE,
      .message = message,
      .errc = XLA_FFI_Error_Code_INVALID_ARGUMENT,
  };
  return frame->api->XLA_FFI_Error_Create(&args);
}
