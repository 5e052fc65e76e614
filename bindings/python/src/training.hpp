// Compression, shared state and outer steps for the extension.
#pragma once

#include <hawser/hawser.h>
#include <nanobind/nanobind.h>

#include <optional>

namespace hawser_python {

namespace nb = nanobind;

// The compression of an operation from a Compression of this extension; nothing for None. What it points to lives as
// long as the Python object.
std::optional<hawser_compression_t> compression_of(const nb::handle& compression);

// Adds the classes Residual, Compression, State and Outer.
void bind_training(nb::module_& module);

}  // namespace hawser_python
