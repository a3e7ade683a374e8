// Small helpers over XLA's C interface for custom calls.
#ifndef MUXJAX_FFI_H
#define MUXJAX_FFI_H

#include <stdbool.h>

#include "xla/ffi/api/c_api.h"

// XLA asks every handler once, when it is registered, which version of the interface it was compiled for.
bool is_metadata_query(const XLA_FFI_CallFrame *frame);
XLA_FFI_Error *answer_metadata_query(const XLA_FFI_CallFrame *frame);

const XLA_FFI_Buffer *argument(const XLA_FFI_CallFrame *frame, int index);
const XLA_FFI_Buffer *result(const XLA_FFI_CallFrame *frame, int index);

// The value of a scalar attribute; NAN or INT64_MIN when there is none of that name and type.
float float_attribute(const XLA_FFI_CallFrame *frame, const char *name);
int64_t int_attribute(const XLA_FFI_CallFrame *frame, const char *name);

// An INVALID_ARGUMENT error, which fails the whole program's run; the message is made as by printf.
XLA_FFI_Error *invalid(const XLA_FFI_CallFrame *frame, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
