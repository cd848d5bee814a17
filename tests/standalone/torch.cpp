#include "torch.h"

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_aten.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <thread>

using torch::headeronly::ScalarType;

namespace {

size_t element_size(int32_t dtype) {
  switch (static_cast<ScalarType>(dtype)) {
    case ScalarType::Half:
    case ScalarType::BFloat16:
      return 2;
    case ScalarType::Float:
      return 4;
    case ScalarType::Double:
    case ScalarType::ComplexFloat:
      return 8;
    case ScalarType::ComplexDouble:
      return 16;
    default:
      throw std::runtime_error("a dtype that no operator takes");
  }
}

std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t step = 1;
  for (size_t i = sizes.size(); i-- > 0; step *= std::max<int64_t>(1, sizes[i])) strides[i] = step;
  return strides;
}
bool is_contiguous(const AtenTensorOpaque& t) {
  const std::vector<int64_t> plain = contiguous_strides(t.sizes);
  for (size_t i = 0; i < plain.size(); ++i) {
    if (t.sizes[i] != 1 && t.strides[i] != plain[i]) return t.numel() == 0;
  }
  return true;
}
AtenTensorOpaque* make(std::vector<int64_t> sizes, int32_t dtype) {
  std::vector<int64_t> strides = contiguous_strides(sizes);
  return new AtenTensorOpaque(std::move(sizes), std::move(strides), dtype);
}

// As of a tensor without overlaps and gaps; others become contiguous in the order of their strides.
AtenTensorOpaque* empty_like(const AtenTensorOpaque& like) {
  std::vector<size_t> order(like.sizes.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return like.strides[a] > like.strides[b]; });
  std::vector<int64_t> sorted;
  for (size_t i : order) sorted.push_back(like.sizes[i]);
  const std::vector<int64_t> plain = contiguous_strides(sorted);
  std::vector<int64_t> strides(order.size());
  for (size_t i = 0; i < order.size(); ++i) strides[order[i]] = plain[i];
  return new AtenTensorOpaque(like.sizes, strides, like.dtype);
}
AtenTensorOpaque* contiguous(const AtenTensorOpaque& t) {
  AtenTensorOpaque* result = make(t.sizes, t.dtype);
  const size_t size = element_size(t.dtype);
  std::vector<int64_t> at(t.sizes.size());
  for (int64_t i = 0; i < t.numel(); ++i) {
    int64_t from = 0, rest = i;
    for (size_t d = at.size(); d-- > 0; rest /= t.sizes[d]) from += rest % t.sizes[d] * t.strides[d];
    std::memcpy(result->storage.get() + i * size, t.storage.get() + from * size, size);
  }
  return result;
}
AtenTensorOpaque* reshape(const AtenTensorOpaque& t, std::vector<int64_t> sizes) {
  int64_t known = 1;
  for (int64_t size : sizes) known *= size == -1 ? 1 : size;
  for (int64_t& size : sizes) size = size == -1 ? t.numel() / known : size;
  std::unique_ptr<AtenTensorOpaque> plain(is_contiguous(t) ? new AtenTensorOpaque(t) : contiguous(t));
  plain->strides = contiguous_strides(sizes);
  plain->sizes = std::move(sizes);
  return plain.release();
}

template <class F>
AOTITorchError attempt(F f) {
  try {
    f();
    return AOTI_TORCH_SUCCESS;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return AOTI_TORCH_FAILURE;
  }
}

std::atomic<int> num_threads{1};
thread_local bool in_parallel = false;

}  // namespace

AtenTensorOpaque::AtenTensorOpaque(std::vector<int64_t> sizes, std::vector<int64_t> strides, int32_t dtype)
    : sizes(std::move(sizes)), strides(std::move(strides)), dtype(dtype) {
  storage.reset(new char[bytes()], std::default_delete<char[]>());
  std::memset(storage.get(), 0xff, bytes());
}
int64_t AtenTensorOpaque::numel() const {
  int64_t count = 1;
  for (int64_t size : sizes) count *= size;
  return count;
}
size_t AtenTensorOpaque::bytes() const {
  if (numel() == 0) return 0;
  int64_t last = 0;
  for (size_t i = 0; i < sizes.size(); ++i) last += (sizes[i] - 1) * strides[i];
  return (last + 1) * element_size(dtype);
}

struct TorchLibraryOpaque {};
struct StableListOpaque {
  std::vector<int64_t> values;
};

namespace standalone {

std::map<std::string, Operator>& operators() {
  static std::map<std::string, Operator> all;
  return all;
}
void set_num_threads(int count) { num_threads = count; }

}  // namespace standalone

extern "C" {

#define BLURFFT_DTYPE(name, type) \
  int32_t name() { return static_cast<int32_t>(ScalarType::type); }
BLURFFT_DTYPE(aoti_torch_dtype_uint8, Byte)
BLURFFT_DTYPE(aoti_torch_dtype_int8, Char)
BLURFFT_DTYPE(aoti_torch_dtype_int16, Short)
BLURFFT_DTYPE(aoti_torch_dtype_int32, Int)
BLURFFT_DTYPE(aoti_torch_dtype_int64, Long)
BLURFFT_DTYPE(aoti_torch_dtype_float16, Half)
BLURFFT_DTYPE(aoti_torch_dtype_float32, Float)
BLURFFT_DTYPE(aoti_torch_dtype_float64, Double)
BLURFFT_DTYPE(aoti_torch_dtype_complex32, ComplexHalf)
BLURFFT_DTYPE(aoti_torch_dtype_complex64, ComplexFloat)
BLURFFT_DTYPE(aoti_torch_dtype_complex128, ComplexDouble)
BLURFFT_DTYPE(aoti_torch_dtype_bool, Bool)
BLURFFT_DTYPE(aoti_torch_dtype_bfloat16, BFloat16)
BLURFFT_DTYPE(aoti_torch_dtype_float8_e5m2, Float8_e5m2)
BLURFFT_DTYPE(aoti_torch_dtype_float8_e4m3fn, Float8_e4m3fn)
BLURFFT_DTYPE(aoti_torch_dtype_float8_e5m2fnuz, Float8_e5m2fnuz)
BLURFFT_DTYPE(aoti_torch_dtype_float8_e4m3fnuz, Float8_e4m3fnuz)
BLURFFT_DTYPE(aoti_torch_dtype_uint16, UInt16)
BLURFFT_DTYPE(aoti_torch_dtype_uint32, UInt32)
BLURFFT_DTYPE(aoti_torch_dtype_uint64, UInt64)
BLURFFT_DTYPE(torch_dtype_float8_e8m0fnu, Float8_e8m0fnu)
BLURFFT_DTYPE(torch_dtype_float4_e2m1fn_x2, Float4_e2m1fn_x2)
size_t aoti_torch_dtype_element_size(int32_t dtype) { return element_size(dtype); }

uint64_t aoti_torch_abi_version() { return TORCH_ABI_VERSION; }
int32_t aoti_torch_memory_format_contiguous_format() { return 0; }

AOTITorchError aoti_torch_new_uninitialized_tensor(AtenTensorHandle* result) {
  return attempt([&] { *result = make({0}, static_cast<int32_t>(ScalarType::Float)); });
}
AOTITorchError aoti_torch_new_tensor_handle(AtenTensorHandle tensor, AtenTensorHandle* result) {
  return attempt([&] { *result = new AtenTensorOpaque(*tensor); });
}
AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle tensor) {
  delete tensor;
  return AOTI_TORCH_SUCCESS;
}
AOTITorchError aoti_torch_get_data_ptr(AtenTensorHandle tensor, void** result) {
  return attempt([&] { *result = tensor->storage.get(); });
}
AOTITorchError aoti_torch_get_dim(AtenTensorHandle tensor, int64_t* result) {
  return attempt([&] { *result = static_cast<int64_t>(tensor->sizes.size()); });
}
AOTITorchError aoti_torch_get_numel(AtenTensorHandle tensor, int64_t* result) {
  return attempt([&] { *result = tensor->numel(); });
}
AOTITorchError aoti_torch_get_sizes(AtenTensorHandle tensor, int64_t** result) {
  return attempt([&] { *result = tensor->sizes.data(); });
}
AOTITorchError aoti_torch_get_strides(AtenTensorHandle tensor, int64_t** result) {
  return attempt([&] { *result = tensor->strides.data(); });
}
AOTITorchError aoti_torch_get_size(AtenTensorHandle tensor, int64_t dim, int64_t* result) {
  return attempt([&] { *result = tensor->sizes.at(dim); });
}
AOTITorchError aoti_torch_get_stride(AtenTensorHandle tensor, int64_t dim, int64_t* result) {
  return attempt([&] { *result = tensor->strides.at(dim); });
}
AOTITorchError aoti_torch_get_dtype(AtenTensorHandle tensor, int32_t* result) {
  return attempt([&] { *result = tensor->dtype; });
}
AOTITorchError aoti_torch_get_device_type(AtenTensorHandle, int32_t* result) {
  return attempt([&] { *result = 0; });
}
AOTITorchError aoti_torch_get_device_index(AtenTensorHandle, int32_t* result) {
  return attempt([&] { *result = -1; });
}
AOTITorchError aoti_torch_is_contiguous(AtenTensorHandle tensor, bool* result) {
  return attempt([&] { *result = is_contiguous(*tensor); });
}
AOTITorchError aoti_torch_empty_strided(int64_t dims, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                                        int32_t, int32_t, AtenTensorHandle* result) {
  return attempt([&] { *result = new AtenTensorOpaque({sizes, sizes + dims}, {strides, strides + dims}, dtype); });
}
AOTITorchError aoti_torch_aten_new_empty(AtenTensorHandle self, const int64_t* sizes, int64_t dims, int32_t* dtype,
                                         int32_t*, int32_t*, int32_t, int32_t*, AtenTensorHandle* result) {
  return attempt([&] { *result = make({sizes, sizes + dims}, dtype ? *dtype : self->dtype); });
}

AOTITorchError torch_new_list_reserve_size(size_t, StableListHandle* result) {
  return attempt([&] { *result = new StableListOpaque; });
}
AOTITorchError torch_list_push_back(StableListHandle list, StableIValue element) {
  return attempt([&] { list->values.push_back(static_cast<int64_t>(element)); });
}
AOTITorchError torch_delete_list(StableListHandle list) {
  delete list;
  return AOTI_TORCH_SUCCESS;
}
// Takes its arguments from the stack, and owns them.
AOTITorchError torch_call_dispatcher(const char* name, const char*, StableIValue* stack, uint64_t) {
  return attempt([&] {
    const std::string wanted = name;
    const std::unique_ptr<AtenTensorOpaque> self(reinterpret_cast<AtenTensorHandle>(stack[0]));
    AtenTensorHandle result;
    if (wanted == "aten::empty_like") {
      result = empty_like(*self);
    } else if (wanted == "aten::contiguous") {
      result = is_contiguous(*self) ? new AtenTensorOpaque(*self) : contiguous(*self);
    } else if (wanted == "aten::reshape") {
      const std::unique_ptr<StableListOpaque> sizes(reinterpret_cast<StableListHandle>(stack[1]));
      result = reshape(*self, sizes->values);
    } else {
      throw std::runtime_error("tests/standalone/torch.cpp has no " + wanted);
    }
    stack[0] = reinterpret_cast<StableIValue>(result);
  });
}

// As torch's: one thread in a parallel region.
AOTITorchError torch_get_num_threads(uint32_t* result) {
  *result = num_threads;
  return AOTI_TORCH_SUCCESS;
}
AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t grain, ParallelFunc f, void* context) {
  const int64_t count = end - begin, tasks = std::min<int64_t>(num_threads, (count + grain - 1) / grain);
  if (count <= 0) return AOTI_TORCH_SUCCESS;
  if (in_parallel || tasks <= 1) return attempt([&] { f(begin, end, context); });
  const int64_t share = (count + tasks - 1) / tasks;
  std::vector<AOTITorchError> outcomes(tasks);
  const auto run = [&](int64_t task) {
    in_parallel = true;
    const int64_t from = begin + task * share, to = std::min(end, from + share);
    outcomes[task] = from < to ? attempt([&] { f(from, to, context); }) : AOTI_TORCH_SUCCESS;
    in_parallel = false;
  };
  std::vector<std::thread> threads;
  for (int64_t task = 1; task < tasks; ++task) threads.emplace_back(run, task);
  run(0);
  for (std::thread& thread : threads) thread.join();
  return *std::ranges::max_element(outcomes);
}

AOTITorchError aoti_torch_library_init_def(const char*, const char*, uint32_t, TorchLibraryHandle* result) {
  return attempt([&] { *result = new TorchLibraryOpaque; });
}
AOTITorchError aoti_torch_library_init_fragment(const char*, const char*, uint32_t, TorchLibraryHandle* result) {
  return attempt([&] { *result = new TorchLibraryOpaque; });
}
AOTITorchError aoti_torch_library_init_impl(const char*, const char*, const char*, uint32_t,
                                            TorchLibraryHandle* result) {
  return attempt([&] { *result = new TorchLibraryOpaque; });
}
AOTITorchError aoti_torch_delete_library_object(TorchLibraryHandle library) {
  delete library;
  return AOTI_TORCH_SUCCESS;
}
// As in "name(Tensor input, float scale) -> (Tensor, Tensor?)".
AOTITorchError aoti_torch_library_def(TorchLibraryHandle, const char* schema) {
  return attempt([&] {
    const std::string text = schema, results = text.substr(text.rfind("->") + 2);
    std::vector<bool>& optional = standalone::operators()[text.substr(0, text.find('('))].optional;
    for (size_t at = results.find("Tensor"); at != std::string::npos; at = results.find("Tensor", at)) {
      at += std::strlen("Tensor");
      optional.push_back(at < results.size() && results[at] == '?');
    }
  });
}
AOTITorchError torch_library_impl(TorchLibraryHandle, const char* name,
                                  void (*boxed)(StableIValue*, uint64_t, uint64_t), uint64_t) {
  return attempt([&] { standalone::operators()[name].boxed = boxed; });
}

}  // extern "C"
