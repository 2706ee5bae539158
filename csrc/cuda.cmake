# The CUDA part of aapt_core: built where nvcc is found. The runtime is linked statically and the driver not at all, so
# that the module imports on a machine without one.

target_sources(aapt_core PRIVATE core/cuda_device.cu ptx/tensor_map.cu attention/plan.cpp attention/sm90.cu)
foreach(operator attention cache_write patch_embed modulate quantise denoise)
  target_sources(aapt_core PRIVATE ${operator}/cuda.cu)
endforeach()
target_compile_definitions(aapt_core PUBLIC AAPT_CUDA)
target_compile_options(aapt_core PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra -lineinfo --resource-usage -Werror=all-warnings>)

# Found beside nvcc, by hand: CMake's own module does not know the folders of the compiler's wheels.
get_filename_component(cuda_bin "${CMAKE_CUDA_COMPILER}" REALPATH)
get_filename_component(cuda_bin "${cuda_bin}" DIRECTORY)
find_library(AAPT_CUDART cudart_static REQUIRED
  HINTS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} ${cuda_bin}/../lib ${cuda_bin}/../lib64
        ${cuda_bin}/../targets/x86_64-linux/lib)
target_link_libraries(aapt_core PUBLIC ${AAPT_CUDART} rt dl pthread)
