// The elements of XLA's arrays.
#ifndef MUXJAX_ELEMENT_H
#define MUXJAX_ELEMENT_H

#include "ffi.h"
#include "vector.h"

// False for a type that the kernels do not compute with.
static inline bool read_element(XLA_FFI_DataType dtype, enum element *element) {
  if (dtype == XLA_FFI_DataType_F32) *element = FLOAT32;
  else if (dtype == XLA_FFI_DataType_BF16) *element = BFLOAT16;
  else if (dtype == XLA_FFI_DataType_F16) *element = FLOAT16;
  else return false;
  return true;
}

#endif
