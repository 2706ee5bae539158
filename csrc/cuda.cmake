# The CUDA part of aapt_core: built where nvcc is found. The runtime is linked statically and the driver not at all, so
# that the module imports on a machine without one.

target_sources(aapt_core PRIVATE core/cuda_device.cu)
target_compile_definitions(aapt_core PUBLIC AAPT_CUDA)
find_package(CUDAToolkit REQUIRED)
target_link_libraries(aapt_core PUBLIC CUDA::cudart_static)
target_compile_options(aapt_core PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra -lineinfo --resource-usage -Werror=all-warnings>)
