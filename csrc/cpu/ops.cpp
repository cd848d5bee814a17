#include "ops.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <numbers>
#include <vector>

#include "../tensor.h"
#include "capability.h"

namespace blurfft::cpu {
namespace {

constexpr size_t kAlignment = 64;
// Channels of a channels_last sample that are transformed together; more would leave the second-level cache.
constexpr int64_t kMaxInterleave = 16;
// Shared spectra are summed over this many fixed parts, whatever the number of threads.
constexpr int64_t kMaxParts = 64;
// Gradients that fill the caches anyway are written past them.
constexpr int64_t kStreamingBytes = int64_t{4} << 20;
// Work below which a second thread costs more than it brings, in pixels.
constexpr int64_t kGrainPixels = 1 << 13;

template <class T>
class Buffer {
 public:
  explicit Buffer(size_t count) { reserve(count); }
  Buffer() = default;
  T* get() const { return data_.get(); }
  void reserve(size_t count) {
    if (count <= size_) return;
    const size_t bytes = (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    T* data = static_cast<T*>(std::aligned_alloc(kAlignment, bytes));
    STD_TORCH_CHECK(data != nullptr, "blurfft: cannot allocate ", bytes, " bytes of workspace");
    data_.reset(data);
    size_ = count;
  }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
};

// Kept from call to call: a fresh allocation of this size is returned to the system and faulted in again each time.
template <class T>
T* scratch(size_t count) {
  static thread_local Buffer<T> buffer;
  buffer.reserve(count);
  return buffer.get();
}

// Streaming stores reach other threads in order only after a fence. One a plane would wait for memory each time.
void fence_streaming_stores() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

// What is left of a range, taken in portions that shrink, no smaller than `grain`.
class alignas(kAlignment) Portions {
 public:
  void assign(int64_t begin, int64_t end) {
    next_.store(begin, std::memory_order_relaxed);
    end_ = end;
  }
  bool take(int64_t grain, int64_t& begin, int64_t& end) {
    begin = next_.load(std::memory_order_relaxed);
    do {
      if (begin >= end_) return false;
      end = std::min(end_, begin + std::max(grain, (end_ - begin) / 8));
    } while (!next_.compare_exchange_weak(begin, end, std::memory_order_relaxed));
    return true;
  }

 private:
  std::atomic<int64_t> next_;
  int64_t end_;
};

// f(begin, end) over parts of [0, count), of `grain` at least, on torch's own threads. Each begins with an equal share
// of its own, as in any other op: what lies in its caches is its own from call to call. Cores are not equally fast,
// being of two kinds or shared with others, so who is done helps the rest.
template <class F>
void in_parallel(int64_t count, int64_t grain, F f) {
  const int64_t threads = torch::stable::get_num_threads(), shares = std::min(threads, (count + grain - 1) / grain);
  if (shares <= 1) {
    f(0, count);
    return fence_streaming_stores();
  }
  // Looking at everybody's share costs as much as a small one.
  const int64_t helped = count > shares * grain ? shares : 1;
  std::vector<Portions> portions(shares);
  for (int64_t i = 0; i < shares; ++i) portions[i].assign(i * count / shares, (i + 1) * count / shares);
  torch::stable::parallel_for(0, shares, 1, [&](int64_t first, int64_t last) {
    int64_t begin, end;
    for (int64_t own = first; own < last; ++own) {
      for (int64_t i = 0; i < helped; ++i) {
        while (portions[(own + i) % shares].take(grain, begin, end)) f(begin, end);
      }
    }
    fence_streaming_stores();
  });
}

Element element(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return Element::f32;
    case ScalarType::Double:
      return Element::f64;
    case ScalarType::BFloat16:
      return Element::bf16;
    case ScalarType::Half:
      return Element::f16;
    default:
      STD_TORCH_CHECK(false, "blurfft: images must be float32, float64, bfloat16 or float16");
  }
}

// As torch::stable::new_empty, which looks its operator up by name each time, at the cost of a small transform.
Tensor empty(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType type) {
  int32_t dtype = static_cast<int32_t>(type);
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_aten_new_empty(like.get(), sizes.data(), static_cast<int64_t>(sizes.size()), &dtype,
                                                   nullptr, nullptr, 0, nullptr, &handle));
  return Tensor(handle);
}
Tensor empty_as(const Tensor& t, ScalarType type) {
  return t.is_contiguous() ? empty(t, t.sizes(), type) : empty_like(t, type);
}
Gradient gradient_by(const Tensor& input, bool wanted) {
  return wanted ? Gradient(empty_as(input, gradient_type(input.scalar_type()))) : std::nullopt;
}

// A factor as a power of two, with which sums of squares stay in range without rounding, and what is left of it.
struct Factor {
  double power_of_two = 1, rest;

  explicit Factor(double x) : rest(x) {
    constexpr int limit = 100;  // within the exponents of float32
    if (!std::isnormal(x)) return;
    power_of_two = std::ldexp(1, std::clamp(std::ilogb(x), -limit, limit));
    rest = x / power_of_two;
  }
};

// Of parameters (n, c, ...), where 1 stands for all samples or channels.
struct Extent {
  int64_t n, c;

  int64_t count() const { return n * c; }
  int64_t entry(int64_t sample, int64_t channel) const { return (n > 1 ? sample : 0) * c + (c > 1 ? channel : 0); }
};

bool fills_the_caches(const Tensor& t) { return t.numel() * static_cast<int64_t>(t.element_size()) >= kStreamingBytes; }

template <class T>
T* values(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

void check_length(int64_t n, const char* what) {
  STD_TORCH_CHECK(supports_length(n), "blurfft: the cpu kernels transform lengths from 1 to ", kMaxLength, "; the ",
                  what, " is ", n);
}

RowGroups row_groups(int64_t height, int lanes) {
  struct Owned {
    std::vector<int32_t> row, mirror;
    int groups;
    bool shared;
  };
  static std::mutex mutex;
  static auto* cache = new std::map<std::pair<int64_t, int>, Owned>;
  std::lock_guard<std::mutex> lock(mutex);
  Owned& owned = (*cache)[{height, lanes}];
  if (owned.row.empty()) {
    const int32_t* position = line<float>(height).position;
    const int64_t middle = height / 2;
    owned.shared = height % 2 == 0 && middle % lanes == 0;
    const int64_t rows = middle + 1 - owned.shared;
    owned.groups = static_cast<int>((rows + lanes - 1) / lanes);
    owned.row.assign(owned.groups * lanes, static_cast<int32_t>(height));
    owned.mirror = owned.row;
    for (int64_t f1 = 0; f1 < rows; ++f1) {
      owned.row[f1] = position[f1];
      owned.mirror[f1] = position[f1 ? height - f1 : owned.shared ? middle : 0];
    }
  }
  return {owned.groups, owned.shared, owned.row.data(), owned.mirror.data()};
}

template <class T>
Geometry<T> geometry(int64_t height, int64_t width, int64_t planes) {
  check_length(height, "height");
  check_length(width, "width");
  return {&line<T>(height), &line<T>(width), static_cast<int>(planes), row_groups(height, kernels<T>().lanes)};
}

// What is asked of an (N, C, H, W) tensor once a plane, which through the stable ABI is a call each.
struct Images {
  char* data;
  Element type;
  int64_t bytes, stride[4];

  explicit Images(const Tensor& t)
      : data(static_cast<char*>(t.data_ptr())),
        type(element(t.scalar_type())),
        bytes(static_cast<int64_t>(t.element_size())),
        stride{t.stride(0), t.stride(1), t.stride(2), t.stride(3)} {}
};

// How the planes of an (N, C, H, W) tensor are grouped into units.
struct Units {
  int64_t samples, channels, height, width;
  int64_t interleave;  // channels of a unit, but for a sample's last
  int64_t per_sample;

  explicit Units(const Tensor& t, bool may_interleave = true)
      : samples(t.size(0)), channels(t.size(1)), height(t.size(2)), width(t.size(3)) {
    const bool channels_last = may_interleave && channels > 1 && t.stride(1) == 1 && t.stride(3) != 1;
    interleave = channels_last ? std::min(channels, kMaxInterleave) : 1;
    per_sample = channels == 0 ? 0 : (channels + interleave - 1) / interleave;
  }
  int64_t count() const { return samples * per_sample; }
  int64_t pixels() const { return height * width; }
  int64_t first_channel(int64_t unit) const { return unit % per_sample * interleave; }
  int64_t planes(int64_t unit) const { return std::min(interleave, channels - first_channel(unit)); }
  int64_t grain() const { return std::max<int64_t>(1, kGrainPixels / std::max<int64_t>(1, pixels() * interleave)); }

  Image image(const Images& t, int64_t unit) const {
    const int64_t at = unit / per_sample * t.stride[0] + first_channel(unit) * t.stride[1];
    return {t.data + at * t.bytes, t.type, t.stride[2], t.stride[3], t.stride[1]};
  }
};

// Geometry of every unit, and of a sample's last where that is narrower.
template <class T>
struct UnitGeometry {
  Geometry<T> whole, last;
  explicit UnitGeometry(const Units& u)
      : whole(geometry<T>(u.height, u.width, std::max<int64_t>(1, u.interleave))), last(whole) {
    if (u.per_sample > 0) last.planes = static_cast<int>(u.planes(u.per_sample - 1));
  }
  const Geometry<T>& operator()(const Units& u, int64_t unit) const {
    return u.planes(unit) == whole.planes ? whole : last;
  }
};

// Planes large enough to be worth the waits of a team's threads for each other, in pixels.
constexpr int64_t kSharedPixels = 1 << 16;

// Units that are left over when every thread has had as many whole ones are shared by all threads, where they are
// large and a considerable part of the work: units [alone, count) by the team.
struct Sharing {
  int64_t alone;
  Team team;

  explicit Sharing(const Units& u) : alone(u.count()), team{1, run_parts} {
    const int64_t threads = torch::stable::get_num_threads(), rest = u.count() % threads;
    if (u.pixels() * u.interleave < kSharedPixels || u.count() > std::min(4 * threads, kMaxParts)) return;
    if (rest == 0 || 2 * rest > threads) return;
    alone -= rest;
    team.parts = static_cast<int>(threads);
  }
  static Sharing none(const Units& u) {
    Sharing sharing(u);
    sharing.alone = u.count();
    return sharing;
  }
  static void run_parts(int parts, void (*f)(void*, int), void* context) {
    in_parallel(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) f(context, static_cast<int>(part));
    });
  }
};
// f(unit, work, team) for every unit.
template <class T, class F>
void each_unit(const Units& units, const Sharing& sharing, size_t work_elements, F f) {
  in_parallel(sharing.alone, units.grain(), [&](int64_t begin, int64_t end) {
    T* work = scratch<T>(work_elements);
    for (int64_t unit = begin; unit < end; ++unit) f(unit, work, nullptr);
  });
  for (int64_t unit = sharing.alone; unit < units.count(); ++unit) {
    f(unit, scratch<T>(work_elements), &sharing.team);
  }
}

// Runs f(part, begin, end) over [0, count) in fixed_parts(count) parts, which depend on count alone.
int64_t fixed_parts(int64_t count) { return std::clamp<int64_t>(count, 1, kMaxParts); }
template <class F>
void in_fixed_parts(int64_t count, F f) {
  const int64_t parts = fixed_parts(count);
  in_parallel(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) f(part, part * count / parts, (part + 1) * count / parts);
  });
}
template <class T>
void add_parts(T* parts, int64_t count, size_t elements) {
  for (int64_t part = 1; part < count; ++part) {
    for (size_t i = 0; i < elements; ++i) parts[i] += parts[part * elements + i];
  }
}

// Runs over all units with their weights: fill(index, tables) makes the tables of weights `index` (a sample's, or 0
// where samples share them), run(unit, tables, sums, work, team) does a unit, finish(index, sums) takes what the units
// with these weights have added to `sums`, the same for any number of threads. No sums: sum_elements is 0, `sums` null,
// finish not called.
template <class T, class Fill, class Run, class Finish>
void each_weighted_unit(const Units& units, const Sharing& sharing, bool weights_per_sample, size_t table_elements,
                        size_t sum_elements, size_t work_elements, Fill fill, Run run, Finish finish) {
  if (weights_per_sample) {
    const int64_t grain = std::max<int64_t>(1, units.grain() / std::max<int64_t>(1, units.per_sample));
    in_parallel(units.samples, grain, [&](int64_t begin, int64_t end) {
      T* work = scratch<T>(work_elements + table_elements + sum_elements);
      T* tables = work + work_elements;
      T* sums = sum_elements ? tables + table_elements : nullptr;
      for (int64_t n = begin; n < end; ++n) {
        fill(n, tables);
        if (sums) std::memset(sums, 0, sizeof(T) * sum_elements);
        for (int64_t i = 0; i < units.per_sample; ++i) run(n * units.per_sample + i, tables, sums, work, nullptr);
        if (sums) finish(n, sums);
      }
    });
    return;
  }

  Buffer<T> tables(table_elements);
  fill(0, tables.get());
  if (!sum_elements) {
    each_unit<T>(units, sharing, work_elements,
                 [&](int64_t unit, T* work, const Team* team) { run(unit, tables.get(), nullptr, work, team); });
    return;
  }
  const int64_t parts = fixed_parts(units.count());
  Buffer<T> sums(sum_elements * parts);
  std::memset(sums.get(), 0, sizeof(T) * sum_elements * parts);
  // Where units are shared there are as many parts as units.
  in_fixed_parts(sharing.alone, [&](int64_t part, int64_t begin, int64_t end) {
    T* work = scratch<T>(work_elements);
    for (int64_t unit = begin; unit < end; ++unit) {
      run(unit, tables.get(), sums.get() + part * sum_elements, work, nullptr);
    }
  });
  for (int64_t unit = sharing.alone; unit < units.count(); ++unit) {
    run(unit, tables.get(), sums.get() + unit * sum_elements, scratch<T>(work_elements), &sharing.team);
  }
  add_parts(sums.get(), parts, sum_elements);
  finish(0, sums.get());
}

// Fused loss of every plane with the weights that fill makes; finish takes power_scale * 4n |F e|^2 summed over the
// planes that share each of them.
template <class T, class Fill, class Finish>
void fused_loss(const Tensor& input, const Tensor& target, const Gradient& grad, bool weights_per_sample,
                int64_t weights_per_channel, bool want_power, T power_scale, double* energy, Fill fill, Finish finish) {
  const Kernels<T>& k = kernels<T>();
  const Units units(input);
  const UnitGeometry<T> geometries(units);
  const size_t packed = packed_elements(geometries.whole, k.lanes, false), elements = packed * weights_per_channel;
  const bool streaming = fills_the_caches(input);
  const ptrdiff_t step = weights_per_channel > 1 ? static_cast<ptrdiff_t>(packed) : 0;
  const Images inputs(input), targets(target), grads(grad.value_or(input));
  const Sharing sharing(units);
  const auto run = [&](int64_t unit, const T* tables, T* power, T* work, const Team* team) {
    const Image a = units.image(inputs, unit), b = units.image(targets, unit);
    const int64_t channel = units.first_channel(unit);
    FilterArgs<T> args = {tables + channel * step,
                          step,
                          false,
                          streaming,
                          power ? power + channel * step : nullptr,
                          step,
                          power_scale,
                          energy + unit / units.per_sample * units.channels + channel};
    Image out = {};
    if (grad) out = units.image(grads, unit);
    k.filter(geometries(units, unit), a, &b, grad ? &out : nullptr, args, work, team);
  };
  each_weighted_unit<T>(units, sharing, weights_per_sample, elements, want_power ? elements : 0,
                        k.workspace_elements(geometries.whole, sharing.team.parts), fill, run, finish);
}

// loss (N,) or (): sums in a fixed order, in double.
template <class T>
Tensor reduce_loss(const Tensor& like, const std::vector<double>& per_plane, int64_t samples, int64_t channels,
                   const std::vector<double>& offset, double scale, bool per_sample) {
  Tensor loss = empty(like, {&samples, per_sample ? size_t{1} : size_t{0}}, real_type<T>);
  // The scale of a mean over nothing is NaN, and so is the mean, as in F.mse_loss.
  double total = 0 * scale;
  for (int64_t n = 0; n < samples; ++n) {
    double sample = offset.empty() ? 0 : offset[n];
    for (int64_t c = 0; c < channels; ++c) sample += per_plane[n * channels + c];
    if (per_sample) values<T>(loss)[n] = static_cast<T>(sample);
    total += sample;
  }
  if (!per_sample) *values<T>(loss) = static_cast<T>(total);
  return loss;
}

Tensor planes_of(const Tensor& t) {
  return torch::stable::reshape(t, std::vector<int64_t>{1, -1, t.size(t.dim() - 2), t.size(t.dim() - 1)});
}

// Small kernels' tables, the same for every kernel of a call.
template <class T>
struct TapTables {
  Buffer<T> tables;
  TapGeometry<T> taps;
  TapTables(const Geometry<T>& g, int64_t height, int64_t width) {
    const Kernels<T>& k = kernels<T>();
    const int kh = static_cast<int>(height), kw = static_cast<int>(width);
    tables.reserve(k.tap_table_elements(g, kh, kw));
    taps = k.fill_taps(g, kh, kw, tables.get());
  }
};

}  // namespace

Tensor rfft2(const Tensor& input, double scale) {
  const Tensor planes = planes_of(input);
  std::vector<int64_t> sizes(input.sizes().begin(), input.sizes().end());
  sizes.back() = sizes.back() / 2 + 1;
  Tensor out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Kernels<T>& k = kernels<T>();
    out = empty(input, sizes, complex_type<T>);
    const Units units(planes, false);
    const Images images(planes);
    const UnitGeometry<T> geometries(units);
    const Geometry<T>& g = geometries.whole;
    const Sharing sharing(units);
    const int64_t step = units.height * sizes.back() * 2;
    each_unit<T>(
        units, sharing, k.workspace_elements(g, sharing.team.parts), [&](int64_t unit, T* work, const Team* team) {
          k.forward(g, units.image(images, unit), values<T>(out) + unit * step, static_cast<T>(scale), work, team);
        });
  });
  return out;
}

Tensor irfft2(const Tensor& input, int64_t width, double scale) {
  const Tensor half = as_contiguous(input);
  std::vector<int64_t> sizes(input.sizes().begin(), input.sizes().end());
  sizes.back() = width;
  Tensor out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Kernels<T>& k = kernels<T>();
    out = empty(input, sizes, real_type<T>);
    const Tensor planes = planes_of(out);
    const Units units(planes, false);
    const Images images(planes);
    const UnitGeometry<T> geometries(units);
    const Geometry<T>& g = geometries.whole;
    const Sharing sharing(units);
    const int64_t step = units.height * (width / 2 + 1) * 2;
    each_unit<T>(
        units, sharing, k.workspace_elements(g, sharing.team.parts), [&](int64_t unit, T* work, const Team* team) {
          k.inverse(g, values<T>(half) + unit * step, units.image(images, unit), static_cast<T>(scale), work, team);
        });
  });
  return out;
}

Tensor otf(const Tensor& kernel, int64_t height, int64_t width) {
  const Tensor taps_in = as_contiguous(kernel);
  const int64_t kernels_count = kernel.size(0) * kernel.size(1), kh = kernel.size(2), kw = kernel.size(3);
  Tensor out;
  for_type(kernel.scalar_type(), [&]<class T>(T) {
    const Kernels<T>& k = kernels<T>();
    out = empty(kernel, {kernel.size(0), kernel.size(1), height, width / 2 + 1}, complex_type<T>);
    const Geometry<T> g = geometry<T>(height, width, 1);
    const TapTables<T> tables(g, kh, kw);
    const size_t packed = packed_elements(g, k.lanes, true);
    in_parallel(kernels_count, 1, [&](int64_t begin, int64_t end) {
      T* work = scratch<T>(packed + k.tap_workspace_elements(g, tables.taps));
      for (int64_t i = begin; i < end; ++i) {
        k.transfer(g, tables.taps, values<T>(taps_in) + i * kh * kw, work, work + packed);
        k.unpack(g, work, true, 1, false, values<T>(out) + i * height * (width / 2 + 1) * 2);
      }
    });
  });
  return out;
}

Tensor otf_backward(const Tensor& grad, int64_t width, int64_t kh, int64_t kw) {
  const Tensor half = as_contiguous(grad);
  const int64_t count = grad.size(0) * grad.size(1), height = grad.size(2), entries = height * (width / 2 + 1);
  Tensor out;
  for_type(grad.scalar_type(), [&]<class T>(T) {
    const Kernels<T>& k = kernels<T>();
    out = empty(grad, {grad.size(0), grad.size(1), kh, kw}, real_type<T>);
    const Geometry<T> g = geometry<T>(height, width, 1);
    const TapTables<T> tables(g, kh, kw);
    const size_t packed = packed_elements(g, k.lanes, true);
    in_parallel(count, 1, [&](int64_t begin, int64_t end) {
      T* work = scratch<T>(packed + k.tap_workspace_elements(g, tables.taps));
      std::vector<double> sums(kh * kw);
      for (int64_t i = begin; i < end; ++i) {
        k.pack_cotangent(g, values<T>(half) + i * entries * 2, work);
        k.transfer_grad(g, tables.taps, work, sums.data(), work + packed);
        std::copy(sums.begin(), sums.end(), values<T>(out) + i * kh * kw);
      }
    });
  });
  return out;
}

Tensor spectral_filter(const Tensor& input, const Tensor& transfer) {
  const Tensor half = as_contiguous(transfer);
  const Tensor out = empty_as(input, input.scalar_type());
  const int64_t tables_n = transfer.size(0), tables_c = transfer.size(1);
  const bool complex_values = is_complex(transfer);
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Kernels<T>& k = kernels<T>();
    const Units units(input);
    const UnitGeometry<T> geometries(units);
    const Geometry<T>& g = geometries.whole;
    const size_t packed = packed_elements(g, k.lanes, complex_values);
    const int64_t entries = units.height * (units.width / 2 + 1) * (complex_values ? 2 : 1);
    const T scale = static_cast<T>(0.5 / static_cast<double>(units.pixels()));
    const ptrdiff_t step = tables_c > 1 ? static_cast<ptrdiff_t>(packed) : 0;
    const bool streaming = fills_the_caches(input);
    const Images inputs(input), outs(out);
    const auto fill = [&](int64_t n, T* tables) {
      for (int64_t c = 0; c < tables_c; ++c) {
        k.pack(g, values<T>(half) + (n * tables_c + c) * entries, complex_values, scale, tables + c * packed);
      }
    };
    const auto run = [&](int64_t unit, const T* tables, T* work, const Team* team) {
      const Image a = units.image(inputs, unit), to = units.image(outs, unit);
      const FilterArgs<T> args = {
          tables + units.first_channel(unit) * step, step, complex_values, streaming, nullptr, 0, 0, nullptr};
      k.filter(geometries(units, unit), a, nullptr, &to, args, work, team);
    };
    if (tables_n == 1) {
      Buffer<T> shared(packed * tables_c);
      fill(0, shared.get());
      const Sharing sharing(units);
      each_unit<T>(units, sharing, k.workspace_elements(g, sharing.team.parts),
                   [&](int64_t unit, T* work, const Team* team) { run(unit, shared.get(), work, team); });
      return;
    }
    // A sample's units have its tables in common: by one thread, unless there are too few samples for all.
    const bool enough = units.samples >= torch::stable::get_num_threads();
    const int64_t together = enough ? std::max<int64_t>(1, units.per_sample) : 1;
    const int64_t grain = (units.grain() + together - 1) / together;
    in_parallel(units.count() / together, grain, [&](int64_t begin, int64_t end) {
      const size_t work_elements = k.workspace_elements(g, 1);
      T* work = scratch<T>(work_elements + packed * tables_c);
      T* tables = work + work_elements;
      int64_t filled = -1;
      for (int64_t unit = begin * together; unit < end * together; ++unit) {
        const int64_t n = unit / units.per_sample;
        if (n != filled) fill(filled = n, tables);
        run(unit, tables, work, nullptr);
      }
    });
  });
  return out;
}

Tensor cross_spectrum(const Tensor& a, const Tensor& b, int64_t n, int64_t c, bool complex) {
  Tensor out;
  for_type(a.scalar_type(), [&]<class T>(T) {
    const Kernels<T>& k = kernels<T>();
    const Units units(a);
    const UnitGeometry<T> geometries(units);
    const Geometry<T>& g = geometries.whole;
    const int64_t columns = units.width / 2 + 1, entries = units.height * columns;
    out = empty(a, {n, c, units.height, columns}, complex ? complex_type<T> : real_type<T>);
    const size_t packed = packed_elements(g, k.lanes, true);
    const ptrdiff_t step = c > 1 ? static_cast<ptrdiff_t>(packed) : 0;
    const Factor scale(0.25 / static_cast<double>(units.pixels()));
    const Images first(a), second(b);
    const auto fill = [](int64_t, T*) {};
    const auto run = [&](int64_t unit, const T*, T* sums, T* work, const Team*) {
      k.cross(geometries(units, unit), units.image(first, unit), units.image(second, unit),
              static_cast<T>(scale.power_of_two), sums + units.first_channel(unit) * step, step, work);
    };
    const auto finish = [&](int64_t sample, const T* sums) {
      static thread_local Buffer<T> parts;
      if (!complex) parts.reserve(2 * entries);
      for (int64_t i = 0; i < c; ++i) {
        T* to = values<T>(out) + (sample * c + i) * entries * (complex ? 2 : 1);
        T* half = complex ? to : parts.get();
        k.unpack(g, sums + i * packed, true, static_cast<T>(scale.rest), true, half);
        if (complex) continue;
        for (int64_t j = 0; j < entries; ++j) to[j] = half[2 * j];
      }
    };
    each_weighted_unit<T>(units, Sharing::none(units), n > 1, 0, packed * c, 2 * k.workspace_elements(g, 1), fill, run,
                          finish);
  });
  return out;
}

std::tuple<Tensor, Gradient, Gradient> spectral_loss(const Tensor& input, const Tensor& target, const Tensor& weight,
                                                     double scale, bool per_sample, bool input_grad, bool weight_grad) {
  const Tensor half = as_contiguous(weight);
  const auto [weights_n, weights_c, rows, columns] = ParameterShape(weight);
  const int64_t samples = input.size(0), channels = input.size(1);
  const Gradient grad = gradient_by(input, input_grad);
  Tensor loss;
  Gradient power_out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Kernels<T>& k = kernels<T>();
    const Geometry<T> g = geometry<T>(input.size(2), input.size(3), 1);
    const double n = static_cast<double>(input.size(2)) * static_cast<double>(input.size(3));
    const size_t packed = packed_elements(g, k.lanes, false);
    const int64_t entries = rows * columns;
    const Factor power(scale / (4 * n));
    if (weight_grad) power_out = empty(weight, weight.sizes(), real_type<T>);
    std::vector<double> energy(samples * channels);
    fused_loss<T>(
        input, target, grad, weights_n > 1, weights_c, weight_grad, static_cast<T>(power.power_of_two), energy.data(),
        [&](int64_t index, T* tables) {
          for (int64_t c = 0; c < weights_c; ++c) {
            k.pack(g, values<T>(half) + (index * weights_c + c) * entries, false, static_cast<T>(scale / n),
                   tables + c * packed);
          }
        },
        [&](int64_t index, const T* sums) {
          for (int64_t c = 0; c < weights_c; ++c) {
            k.unpack(g, sums + c * packed, false, static_cast<T>(power.rest), true,
                     values<T>(*power_out) + (index * weights_c + c) * entries);
          }
        });
    loss = reduce_loss<T>(input, energy, samples, channels, {}, scale, per_sample);
  });
  return {loss, grad, power_out};
}

std::tuple<Tensor, Gradient, Gradient, Gradient, Gradient> wiener_loss(const Tensor& input, const Tensor& target,
                                                                       const Tensor& kernel, const Tensor& nsr,
                                                                       const Tensor& eps, double scale, bool nll,
                                                                       bool per_sample, bool input_grad,
                                                                       bool kernel_grad) {
  const int64_t samples = input.size(0), channels = input.size(1), height = input.size(2), width = input.size(3);
  const auto [kernels_n, kernels_c, kh, kw] = ParameterShape(kernel);
  const int64_t taps = kh * kw;
  STD_TORCH_CHECK(kernel.numel() > 0 && nsr.numel() > 0 && eps.numel() > 0,
                  "blurfft_cpu::wiener_loss: kernel, nsr and eps must not be empty");
  const Tensor taps_in = as_contiguous(kernel), nsr_in = as_contiguous(nsr), eps_in = as_contiguous(eps);
  const Extent kernel_extent = {kernels_n, kernels_c}, nsr_extent = {nsr.size(0), nsr.size(1)},
               eps_extent = {eps.size(0), eps.size(1)};
  const int64_t weights_n = std::max({kernel_extent.n, nsr_extent.n, eps_extent.n});
  const int64_t weights_c = std::max({kernel_extent.c, nsr_extent.c, eps_extent.c});
  const Gradient grad = gradient_by(input, input_grad);
  Tensor loss;
  Gradient kernel_out, nsr_out, eps_out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Kernels<T>& k = kernels<T>();
    const Geometry<T> g = geometry<T>(height, width, 1);
    const TapTables<T> tables(g, kh, kw);
    const double n = static_cast<double>(height) * static_cast<double>(width);
    const double quadratic = scale * (nll ? 0.5 : 1);
    const Factor square(quadratic / (4 * n));
    // Planes that share a weight, each with the weight's whole log-determinant.
    const double sharing = static_cast<double>((weights_n > 1 ? 1 : samples) * (weights_c > 1 ? 1 : channels));
    const size_t packed = packed_elements(g, k.lanes, false);
    const int64_t weights = weights_n * weights_c;
    std::vector<double> energy(samples * channels), log_determinant(nll ? weights : 0);
    // A kernel of its own for every weight gets its gradient at once; a shared one, the sum over its weights at the
    // end.
    const bool own_kernels = kernel_extent.count() == weights;
    if (kernel_grad) kernel_out = empty(kernel, kernel.sizes(), real_type<T>);
    std::vector<double> kernel_sums(kernel_grad && !own_kernels ? weights * taps : 0);
    std::vector<double> nsr_sums(kernel_grad ? weights : 0), eps_sums(kernel_grad ? weights : 0);

    // Transfer functions, kept from fill to finish for the gradient. Without one they may lie where the planes will.
    const size_t transfer_elements = 2 * packed;
    const size_t tap_elements = k.tap_workspace_elements(g, tables.taps);
    const size_t spectra_elements = transfer_elements * weights_c + tap_elements;
    const bool keep_spectra = kernel_grad || weights_n > 1;
    static thread_local Buffer<T> kept_spectra;
    static thread_local std::vector<double> own_sums;
    fused_loss<T>(
        input, target, grad, weights_n > 1, weights_c, kernel_grad, static_cast<T>(square.power_of_two), energy.data(),
        [&](int64_t index, T* out) {
          if (keep_spectra) kept_spectra.reserve(spectra_elements);
          T* spectra = keep_spectra ? kept_spectra.get() : scratch<T>(spectra_elements);
          for (int64_t c = 0; c < weights_c; ++c) {
            const WienerArgs<T> args = {values<T>(taps_in) + kernel_extent.entry(index, c) * taps,
                                        values<T>(nsr_in)[nsr_extent.entry(index, c)],
                                        values<T>(eps_in)[eps_extent.entry(index, c)],
                                        spectra + tap_elements + c * transfer_elements,
                                        out + c * packed,
                                        static_cast<T>(quadratic / n),
                                        nll ? &log_determinant[index * weights_c + c] : nullptr};
            k.wiener(g, tables.taps, args, spectra);
          }
        },
        [&](int64_t index, const T* power) {
          for (int64_t c = 0; c < weights_c; ++c) {
            const int64_t at = index * weights_c + c;
            T* transfer = kept_spectra.get() + tap_elements + c * transfer_elements;
            if (own_kernels) own_sums.resize(taps);
            double* sums = own_kernels ? own_sums.data() : &kernel_sums[at * taps];
            const WienerGradArgs<T> args = {power + c * packed,
                                            transfer,
                                            values<T>(nsr_in)[nsr_extent.entry(index, c)],
                                            values<T>(eps_in)[eps_extent.entry(index, c)],
                                            square.rest,
                                            nll ? -0.5 * scale * sharing : 0.0,
                                            sums,
                                            &nsr_sums[at],
                                            &eps_sums[at]};
            k.wiener_grad(g, tables.taps, args, transfer, kept_spectra.get());
            if (own_kernels) std::copy(sums, sums + taps, values<T>(*kernel_out) + at * taps);
          }
        });

    std::vector<double> offset;
    if (nll) {
      const double plane_constant = 0.5 * n * std::log(2 * std::numbers::pi);
      offset.assign(samples, 0);
      for (int64_t i = 0; i < samples; ++i) {
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t at = (weights_n > 1 ? i : 0) * weights_c + (weights_c > 1 ? c : 0);
          offset[i] += scale * (plane_constant - 0.5 * log_determinant[at]);
        }
      }
    }
    loss = reduce_loss<T>(input, energy, samples, channels, offset, scale, per_sample);

    if (!kernel_grad) return;
    // Sums over the weights that a kernel, nsr or eps is shared by, in a fixed order.
    const auto reduce = [&](const Tensor& like, Extent extent, const std::vector<double>& sums, int64_t size) {
      const Tensor result = empty(like, like.sizes(), real_type<T>);
      T* out = values<T>(result);
      if (extent.count() == weights) {
        std::copy(sums.begin(), sums.end(), out);
        return result;
      }
      std::vector<double> total(extent.count() * size);
      for (int64_t i = 0; i < weights; ++i) {
        double* to = &total[extent.entry(i / weights_c, i % weights_c) * size];
        for (int64_t j = 0; j < size; ++j) to[j] += sums[i * size + j];
      }
      std::copy(total.begin(), total.end(), out);
      return result;
    };
    if (!own_kernels) kernel_out = reduce(kernel, kernel_extent, kernel_sums, taps);
    nsr_out = reduce(nsr, nsr_extent, nsr_sums, 1);
    eps_out = reduce(eps, eps_extent, eps_sums, 1);
  });
  return {loss, grad, kernel_out, nsr_out, eps_out};
}

std::tuple<Tensor, Gradient, Gradient> blur_mse(const Tensor& input, const Tensor& target, const Tensor& kernel,
                                                double scale, bool per_sample, bool input_grad, bool kernel_grad) {
  const Tensor taps_in = as_contiguous(kernel);
  const auto [kernels_n, kernels_c, kh, kw] = ParameterShape(kernel);
  const Gradient grad = gradient_by(input, input_grad);
  Tensor loss;
  Gradient kernel_out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Kernels<T>& k = kernels<T>();
    const Units units(input);
    const UnitGeometry<T> geometries(units);
    const Geometry<T>& g = geometries.whole;
    const TapTables<T> tap_tables(g, kh, kw);
    const TapGeometry<T>& taps = tap_tables.taps;
    if (kernel_grad) kernel_out = empty(kernel, kernel.sizes(), real_type<T>);
    const Factor residual(scale / static_cast<double>(units.pixels()));
    const size_t packed = packed_elements(g, k.lanes, true);
    const ptrdiff_t step = kernels_c > 1 ? static_cast<ptrdiff_t>(packed) : 0;
    const size_t tap_elements = k.tap_workspace_elements(g, taps);
    const bool streaming = fills_the_caches(input);
    std::vector<double> energy(units.samples * units.channels);
    const Images inputs(input), targets(target), grads(grad.value_or(input));
    const auto tap_work = [&] {
      static thread_local Buffer<T> buffer;
      buffer.reserve(tap_elements);
      return buffer.get();
    };
    const auto fill = [&](int64_t index, T* tables) {
      for (int64_t c = 0; c < kernels_c; ++c) {
        T* table = tables + c * packed;
        k.transfer(g, taps, values<T>(taps_in) + (index * kernels_c + c) * kh * kw, table, tap_work());
      }
    };
    const auto run = [&](int64_t unit, const T* tables, T* cross, T* work, const Team*) {
      const int64_t channel = units.first_channel(unit);
      const BlurArgs<T> args = {tables + channel * step,
                                step,
                                static_cast<T>(residual.power_of_two),
                                static_cast<T>(residual.rest),
                                streaming,
                                cross ? cross + channel * step : nullptr,
                                step,
                                &energy[unit / units.per_sample * units.channels + channel]};
      Image out = {};
      if (input_grad) out = units.image(grads, unit);
      k.blur_mse(geometries(units, unit), units.image(inputs, unit), units.image(targets, unit),
                 input_grad ? &out : nullptr, args, work);
    };
    // d loss / d K = -2 conj(F target) F r on every frequency; `cross` stands for the mirror rows too.
    const auto finish = [&](int64_t index, const T* cross) {
      static thread_local std::vector<double> sums;
      sums.resize(kh * kw);
      for (int64_t c = 0; c < kernels_c; ++c) {
        k.transfer_grad(g, taps, cross + c * packed, sums.data(), tap_work());
        T* to = values<T>(*kernel_out) + (index * kernels_c + c) * kh * kw;
        for (int64_t i = 0; i < kh * kw; ++i) to[i] = static_cast<T>(-residual.rest * sums[i]);
      }
    };
    each_weighted_unit<T>(units, Sharing::none(units), kernels_n > 1, packed * kernels_c,
                          kernel_grad ? packed * kernels_c : 0, 2 * k.workspace_elements(g, 1), fill, run, finish);
    for (double& e : energy) e *= residual.rest;
    loss = reduce_loss<T>(input, energy, units.samples, units.channels, {}, scale, per_sample);
  });
  return {loss, grad, kernel_out};
}

// Every plane is transformed twice: for its spectrum's largest value, then, still in the cache, for the weighted error.
std::tuple<Tensor, Gradient> focal_frequency_loss(const Tensor& input, const Tensor& target, double alpha,
                                                  bool log_matrix, double scale, bool per_sample, bool input_grad) {
  const Gradient grad = gradient_by(input, input_grad);
  Tensor loss;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Kernels<T>& k = kernels<T>();
    const Units units(input);
    const UnitGeometry<T> geometries(units);
    const size_t packed = packed_elements(geometries.whole, k.lanes, false);
    const Sharing sharing(units);
    const size_t work_elements = k.workspace_elements(geometries.whole, sharing.team.parts);
    const ptrdiff_t step = static_cast<ptrdiff_t>(packed);
    const double n = static_cast<double>(units.pixels());
    const Factor power(0.25 / n);
    const bool streaming = fills_the_caches(input);
    std::vector<double> energy(units.samples * units.channels);
    const Images inputs(input), targets(target), grads(grad.value_or(input));
    each_unit<T>(
        units, sharing, work_elements + packed * units.interleave, [&](int64_t unit, T* work, const Team* team) {
          T* tables = work + work_elements;
          const Image a = units.image(inputs, unit), b = units.image(targets, unit);
          const Geometry<T>& g = geometries(units, unit);
          std::memset(tables, 0, sizeof(T) * packed * g.planes);
          // Without an image to write the table has no effect.
          k.filter(g, a, &b, nullptr,
                   {tables, step, false, false, tables, step, static_cast<T>(power.power_of_two), nullptr}, work, team);
          for (int c = 0; c < g.planes; ++c) {
            k.focal_weight(
                g, {alpha, log_matrix, static_cast<T>(power.rest), static_cast<T>(scale / n), tables + c * step});
          }
          Image out = {};
          if (input_grad) out = units.image(grads, unit);
          double* sums = &energy[unit / units.per_sample * units.channels + units.first_channel(unit)];
          k.filter(g, a, &b, input_grad ? &out : nullptr, {tables, step, false, streaming, nullptr, 0, 0, sums}, work,
                   team);
        });
    loss = reduce_loss<T>(input, energy, units.samples, units.channels, {}, scale, per_sample);
  });
  return {loss, grad};
}

}  // namespace blurfft::cpu

// The one operator that the CUDA kernels do not have.
STABLE_TORCH_LIBRARY_FRAGMENT(blurfft_cpu, m) {
  m.def(
      "blur_mse(Tensor input, Tensor target, Tensor kernel, float scale, bool per_sample, bool input_grad, "
      "bool kernel_grad) -> (Tensor, Tensor?, Tensor?)");
}

STABLE_TORCH_LIBRARY_IMPL(blurfft_cpu, CPU, m) { m.impl("blur_mse", TORCH_BOX(&blurfft::cpu::blur_mse)); }
