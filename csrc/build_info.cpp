// Introspection: how this module was built and what the CPU it runs on offers it.
#include <pybind11/pybind11.h>
#include <torch/version.h>

#include <string>

#ifndef FASTCLIP_CXX_FLAGS
#error "setup.py defines FASTCLIP_CXX_FLAGS"
#endif

namespace {

std::string compiler() {
#if defined(__clang__)
  return std::string("clang ") + __clang_version__;
#elif defined(__GNUC__)
  return std::string("gcc ") + __VERSION__;
#else
  return "unknown";
#endif
}

// The clone of FASTCLIP_MULTIVERSION functions (csrc/cpu/simd_math.h) that the loader picks here.
std::string cpu_capability() {
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return "x86-64-v4";
  if (__builtin_cpu_supports("x86-64-v3")) return "x86-64-v3";
#endif
  return "baseline";
}

pybind11::dict build_info() {
  pybind11::dict info;
  info["compiler"] = compiler();
  info["flags"] = FASTCLIP_CXX_FLAGS;
  info["torch_version"] = TORCH_VERSION;
  info["cpu_capability"] = cpu_capability();
  return info;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "Native operators of fastclip; importing it registers torch.ops.fastclip_native.";
  m.def("build_info", &build_info, "compiler, flags, torch_version, cpu_capability: strings");
}
