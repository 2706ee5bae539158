// aapt_ext._C: the operators on arrays that already exist. Shapes, rules and examples: the Python files of
// aapt_ext.
//
// Every operator takes `dtype="bf16"` from callers whose 16-bit words are bfloat16 (NumPy), and `stream` (an
// integer) from callers whose library does not tell its current stream.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <climits>
#include <optional>
#include <utility>
#include <vector>

#include "array.h"
#include "attention/op.h"
#include "cache_write/op.h"
#include "core/dispatch.h"
#if defined(AAPT_CUDA)
#include "core/cuda_device.h"
#endif
#include "denoise/op.h"
#include "linear/op.h"
#include "modulate/op.h"
#include "patch_embed/op.h"
#include "quantise/op.h"

namespace py = pybind11;

namespace aapt::python {
namespace {

// Lets other Python threads run. (pybind11's own class asks for its global state first, which small calls feel.)
class WithoutInterpreter {
 public:
  WithoutInterpreter() : state_(PyEval_SaveThread()) {}
  ~WithoutInterpreter() { PyEval_RestoreThread(state_); }
  WithoutInterpreter(const WithoutInterpreter&) = delete;
  WithoutInterpreter& operator=(const WithoutInterpreter&) = delete;

 private:
  PyThreadState* const state_;
};

// How the arrays of one call are read.
class Call {
 public:
  Call(const char* op, py::handle dtype, py::handle stream) : op_(op) {
    if (!dtype.is_none()) {
      const auto name = py::str(dtype).cast<std::string>();
      if (name != "bf16") Check(op).fail("dtype", "is '" + name + "'", "left out, or bf16");
      words_are_bf16_ = true;
    }
    if (!stream.is_none()) {
      stream_ = PyLong_AsVoidPtr(integer(stream, "stream").ptr());
      if (PyErr_Occurred()) {
        PyErr_Clear();
        Check(op).fail("stream", "is beyond the size of a pointer", "a stream's address");
      }
    }
  }

  py::int_ integer(py::handle object, const std::string& argument) const {
    if (!PyLong_Check(object.ptr())) {
      Check(op_).fail(argument, std::string("is a ") + Py_TYPE(object.ptr())->tp_name, "an integer");
    }
    return py::reinterpret_borrow<py::int_>(object);
  }

  Array array(py::handle object, const char* argument) const { return Array(object, argument, words_are_bf16_); }
  std::optional<Array> optional(py::handle object, const char* argument) const {
    if (object.is_none()) return std::nullopt;
    return std::optional<Array>(std::in_place, object, argument, words_are_bf16_);
  }
  std::vector<Array> list(py::handle objects, const char* argument) const {
    std::vector<Array> arrays;
    for (py::handle object : objects) arrays.emplace_back(object, argument, words_are_bf16_);
    return arrays;
  }
  void* stream(const Array& first) const { return stream_ ? stream_ : first.stream(); }

  template <class Problem>
  static void run(const Problem& problem, void (*op)(const Problem&)) {
    const WithoutInterpreter release;
    op(problem);
  }

 private:
  const char* op_;
  bool words_are_bf16_ = false;
  void* stream_ = nullptr;
};

const Tensor* view(const std::optional<Array>& array) {
  return array ? &**array : nullptr;
}

std::vector<Tensor> views(const std::vector<Array>& arrays) {
  std::vector<Tensor> tensors;
  for (const Array& array : arrays) tensors.push_back(*array);
  return tensors;
}

void paged_attention(py::sequence queries, py::sequence segments, double scale, py::handle out, py::handle lse,
                     py::handle dtype, py::handle stream) {
  const Call call("paged_attention", dtype, stream);
  const auto query_arrays = call.list(queries, "queries");
  std::vector<Array> held;
  std::vector<attention::SegmentArguments> arguments;
  held.reserve(5 * segments.size());
  const auto hold = [&](py::handle object, const char* argument) -> const Tensor& {
    held.push_back(call.array(object, argument));
    return *held.back();
  };
  for (py::handle item : segments) {
    const std::string label = "segments[" + std::to_string(arguments.size()) + "]";
    const bool listed = PyTuple_Check(item.ptr()) || PyList_Check(item.ptr());
    if (!listed || py::len(item) != 7) {
      Check("paged_attention")
          .fail(label, listed ? "has " + std::to_string(py::len(item)) + " fields" : "is no tuple",
                "(k_pages, v_pages, rows, page_table, page_count, last_rows, query)");
    }
    const auto s = py::reinterpret_borrow<py::sequence>(item);
    const auto number = [&](int field, const char* name) {
      const long long value = PyLong_AsLongLong(call.integer(s[field], label + "." + name).ptr());
      const bool overflow = PyErr_Occurred() || value < INT_MIN || value > INT_MAX;
      PyErr_Clear();
      if (overflow) {
        Check("paged_attention").fail(label + "." + name, "is beyond 32 bits", "an integer of 32 bits");
      }
      return static_cast<int>(value);
    };
    arguments.push_back({hold(s[0], "k_pages"), hold(s[1], "v_pages"), number(2, "rows"), hold(s[3], "page_table"),
                         hold(s[4], "page_count"), hold(s[5], "last_rows"), number(6, "query")});
  }
  const auto out_array = call.array(out, "out");
  const auto lse_array = call.optional(lse, "lse");
  const auto query_views = views(query_arrays);
  Call::run(attention::make_problem(query_views.data(), static_cast<int>(query_views.size()), arguments.data(),
                                    static_cast<int>(arguments.size()), scale, *out_array, view(lse_array),
                                    call.stream(out_array)),
            attention::run);
}

void cache_write(py::handle qkv, py::handle q_weight, py::handle k_weight, double eps, py::handle time_rotation,
                 py::handle space_rotation, py::handle pinned_rotation, py::handle page, py::handle k_pages,
                 py::handle v_pages, py::handle q, py::handle q_pinned, py::handle dtype, py::handle stream) {
  const Call call("cache_write", dtype, stream);
  const auto qkv_array = call.array(qkv, "qkv");
  const auto q_weight_array = call.optional(q_weight, "q_weight");
  const auto k_weight_array = call.optional(k_weight, "k_weight");
  const auto time_array = call.array(time_rotation, "time_rotation");
  const auto space_array = call.array(space_rotation, "space_rotation");
  const auto pinned_array = call.optional(pinned_rotation, "pinned_rotation");
  const auto page_array = call.array(page, "page");
  const auto k_array = call.array(k_pages, "k_pages");
  const auto v_array = call.array(v_pages, "v_pages");
  const auto q_array = call.array(q, "q");
  const auto q_pinned_array = call.optional(q_pinned, "q_pinned");
  Call::run(cache_write::make_problem(*qkv_array, view(q_weight_array), view(k_weight_array), eps, *time_array,
                                      *space_array, view(pinned_array), *page_array, *k_array, *v_array, *q_array,
                                      view(q_pinned_array), call.stream(qkv_array)),
            cache_write::run);
}

void patch_embed(py::sequence sources, py::handle weight, py::handle bias, py::handle out, py::handle dtype,
                 py::handle stream) {
  const Call call("patch_embed", dtype, stream);
  const auto source_arrays = call.list(sources, "sources");
  const auto weight_array = call.array(weight, "weight");
  const auto bias_array = call.optional(bias, "bias");
  const auto out_array = call.array(out, "out");
  const auto source_views = views(source_arrays);
  Call::run(patch_embed::make_problem(source_views.data(), static_cast<int>(source_views.size()), *weight_array,
                                      view(bias_array), *out_array, call.stream(out_array)),
            patch_embed::run);
}

void modulate(py::handle x, py::handle y, py::handle gate, py::handle scale, py::handle shift, py::handle weight,
              py::handle bias, double eps, py::handle residual, py::handle out, py::handle row_scale, py::handle dtype,
              py::handle stream) {
  const Call call("modulate", dtype, stream);
  const auto x_array = call.array(x, "x");
  const auto y_array = call.optional(y, "y");
  const auto gate_array = call.optional(gate, "gate");
  const auto scale_array = call.optional(scale, "scale");
  const auto shift_array = call.optional(shift, "shift");
  const auto weight_array = call.optional(weight, "weight");
  const auto bias_array = call.optional(bias, "bias");
  const auto residual_array = call.optional(residual, "residual");
  const auto out_array = call.array(out, "out");
  const auto row_scale_array = call.optional(row_scale, "row_scale");
  Call::run(modulate::make_problem(*x_array, view(y_array), view(gate_array), view(scale_array), view(shift_array),
                                   view(weight_array), view(bias_array), eps, view(residual_array), *out_array,
                                   view(row_scale_array), call.stream(x_array)),
            modulate::run);
}

void quantise(py::handle x, const std::string& activation, py::handle out, py::handle row_scale, py::handle dtype,
              py::handle stream) {
  const Call call("quantise", dtype, stream);
  const auto x_array = call.array(x, "x");
  const auto out_array = call.array(out, "out");
  const auto row_scale_array = call.array(row_scale, "row_scale");
  Call::run(quantise::make_problem(*x_array, activation, *out_array, *row_scale_array, call.stream(x_array)),
            quantise::run);
}

void denoise(py::handle x, py::handle scale, py::handle shift, py::handle weight, py::handle bias, py::handle noisy,
             double timestep, double eps, py::handle out, py::handle dtype, py::handle stream) {
  const Call call("denoise", dtype, stream);
  const auto x_array = call.array(x, "x");
  const auto scale_array = call.array(scale, "scale");
  const auto shift_array = call.array(shift, "shift");
  const auto weight_array = call.array(weight, "weight");
  const auto bias_array = call.optional(bias, "bias");
  const auto noisy_array = call.array(noisy, "noisy");
  const auto out_array = call.array(out, "out");
  Call::run(denoise::make_problem(*x_array, *scale_array, *shift_array, *weight_array, view(bias_array), *noisy_array,
                                  timestep, eps, *out_array, call.stream(x_array)),
            denoise::run);
}

void linear(py::handle x, py::handle weight, py::handle bias, const std::string& activation, py::handle out,
            py::handle dtype) {
  const Call call("linear", dtype, py::none());
  const auto x_array = call.array(x, "x");
  const auto weight_array = call.array(weight, "weight");
  const auto bias_array = call.optional(bias, "bias");
  const auto out_array = call.array(out, "out");
  Call::run(linear::make_problem(*x_array, *weight_array, view(bias_array), activation, *out_array), linear::run);
}

std::vector<std::string> cpu_backends() {
  std::vector<std::string> names;
  for (Backend backend : kCpuBackends) {
    if (cpu_supports(backend)) names.push_back(name_of(backend));
  }
  return names;
}

}  // namespace
}  // namespace aapt::python

PYBIND11_MODULE(_C, module) {
  using namespace aapt;
  const auto none = py::none();
  const auto keyword = py::kw_only();
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const ArgumentError& argument) {
      PyErr_SetString(PyExc_ValueError, argument.what());
    }
  });

  module.def("paged_attention", &python::paged_attention, py::arg("queries"), py::arg("segments"), py::arg("scale"),
             py::arg("out"), py::arg("lse") = none, keyword, py::arg("dtype") = none, py::arg("stream") = none);
  module.def("cache_write", &python::cache_write, py::arg("qkv"), py::arg("q_weight"), py::arg("k_weight"),
             py::arg("eps"), py::arg("time_rotation"), py::arg("space_rotation"), py::arg("pinned_rotation"),
             py::arg("page"), py::arg("k_pages"), py::arg("v_pages"), py::arg("q"), py::arg("q_pinned"), keyword,
             py::arg("dtype") = none, py::arg("stream") = none);
  module.def("patch_embed", &python::patch_embed, py::arg("sources"), py::arg("weight"), py::arg("bias"),
             py::arg("out"), keyword, py::arg("dtype") = none, py::arg("stream") = none);
  module.def("modulate", &python::modulate, py::arg("x"), py::arg("y"), py::arg("gate"), py::arg("scale"),
             py::arg("shift"), py::arg("weight"), py::arg("bias"), py::arg("eps"), py::arg("residual"), py::arg("out"),
             py::arg("row_scale") = none, keyword, py::arg("dtype") = none, py::arg("stream") = none);
  module.def("quantise", &python::quantise, py::arg("x"), py::arg("activation"), py::arg("out"), py::arg("row_scale"),
             keyword, py::arg("dtype") = none, py::arg("stream") = none);
  module.def("denoise", &python::denoise, py::arg("x"), py::arg("scale"), py::arg("shift"), py::arg("weight"),
             py::arg("bias"), py::arg("noisy"), py::arg("timestep"), py::arg("eps"), py::arg("out"), keyword,
             py::arg("dtype") = none, py::arg("stream") = none);
  module.def("linear", &python::linear, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("activation"),
             py::arg("out"), keyword, py::arg("dtype") = none);

  module.def("force_cpu_backend", &force_cpu_backend, py::arg("name"));
  module.def("forced_cpu_backend", &forced_cpu_backend);
  module.def("cpu_backend", [] { return std::string(name_of(cpu_backend())); });
  module.def("cpu_backends", &python::cpu_backends);
#if defined(AAPT_CUDA)
  module.attr("built_with_cuda") = true;
  module.attr("cuda_operators") =
      py::make_tuple("patch_embed", "cache_write", "paged_attention", "modulate", "quantise", "denoise");
  module.def("take_bad_page", &cuda::take_bad_page, py::arg("device"), py::call_guard<py::gil_scoped_release>());
  module.def("cuda_report", [] {
    const auto report = cuda::report();
    py::list devices;
    for (const auto& device : report.devices) {
      devices.append(py::dict(py::arg("name") = device.name,
                              py::arg("capability") = py::make_tuple(device.major, device.minor),
                              py::arg("multiprocessors") = device.multiprocessors, py::arg("memory") = device.memory));
    }
    return py::dict(py::arg("runtime") = report.runtime, py::arg("driver") = report.driver,
                    py::arg("error") = report.error, py::arg("devices") = devices);
  });
#else
  module.attr("built_with_cuda") = false;
  module.attr("cuda_operators") = py::tuple();
#endif
}
