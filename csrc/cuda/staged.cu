#include "staged.cuh"

#include <variant>

#include "fused.cuh"

namespace blurfft::cuda {

bool addressable(const Planes& p, Size plane) {
  return plane_fits(p.row, p.column, static_cast<int>(plane.height), static_cast<int>(plane.width));
}

namespace {

#ifdef __CUDACC__
constexpr int64_t kMaxParts = 16;  // of a sum over planes
// Of spectra between the kernels of a chunk: they stay in the second-level cache, of which 16 MB fill any GPU.
int64_t chunk_bytes() {
  int device = 0, cache = 0;
  check(cudaGetDevice(&device), "(cudaGetDevice)");
  check(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device), "(cudaDeviceGetAttribute)");
  return std::clamp<int64_t>(cache / 2, int64_t{1} << 20, int64_t{16} << 20);
}
#else
// The emulator's few small planes are to be several chunks and parts.
constexpr int64_t kMaxParts = 2;
int64_t chunk_bytes() { return int64_t{1} << 10; }
#endif
constexpr int64_t kRowElements = 2048;                   // of a block
constexpr int64_t kColumnBytes = 64;                     // that a block reads of a row: two sectors
constexpr size_t kColumnSharedBytes = size_t{80} << 10;  // of a block: one still fits where there are 99 KB

// Planes in the order of what they share; of nothing shared, each is a group.
StagedOrder order_of(const Batch& batch, Extent shared) {
  const bool by_sample = shared.n > 1 || batch.samples == 1, by_channel = shared.c > 1 || batch.channels == 1;
  if (by_sample && by_channel) return {1, 1, 0, 0};
  if (by_sample) return {batch.channels, batch.channels, 1, 0};
  if (by_channel) return {batch.samples, 1, batch.channels, 0};
  return {batch.planes(), 0, 1, 0};
}

template <class T>
class Stages {
 public:
  // sums_of: what planes share whose sums are wanted.
  Stages(const Batch& batch, Extent sums_of, int buffers, const Context& context)
      : batch_(batch), context_(context), order_(order_of(batch, sums_of)) {
    rows_.channels = columns_.channels = static_cast<int>(batch.channels);
    rows_.height = columns_.height = static_cast<int>(batch.plane.height);
    rows_.width = columns_.width = static_cast<int>(batch.plane.width);
    row_ = length_of(rows_.width);
    column_ = rows_.width == rows_.height ? row_ : length_of(rows_.height);
    const int64_t storage = std::visit([](const auto& row) { return row.storage(); }, row_);
    rows_.lines = static_cast<int>(std::clamp<int64_t>(kRowElements / storage, 1, pairs()));
    columns_.unit = static_cast<T>(unit());
    columns_.parts = static_cast<int>(std::min(order_.members, kMaxParts));
    columns_.columns = static_cast<int>(kColumnBytes / sizeof(Complex<T>));
    while (columns_.columns > 1 && shared_bytes<true>(column_, columns_.columns) > kColumnSharedBytes) {
      columns_.columns /= 2;
    }
    chunk_ = std::clamp<int64_t>(chunk_bytes() / buffers / (entries() * sizeof(Complex<T>)), 1, batch.planes());
  }

  int64_t entries() const { return entries_of(batch_.plane); }
  int64_t groups() const { return batch_.planes() / order_.members; }
  int64_t chunk() const { return chunk_; }
  int64_t parts() const { return columns_.parts; }
  int64_t column_blocks() const { return columns_.blocks(); }
  // What the orthonormal transform there and back takes of an unnormalised one.
  T per_entry() const { return static_cast<T>(1.0 / pixels()); }
  // Of squares and products of the unnormalised transform times `unit`.
  T per_square() const { return static_cast<T>(1.0 / pixels() / (unit() * unit())); }
  double unit() const { return square_unit<T>(static_cast<int>(pixels())); }
  // Of |F e|, orthonormal, in units of the squares' roots.
  T unit_of_roots() const { return static_cast<T>(1.0 / std::sqrt(pixels()) / unit()); }

  Complex<T>* work() const { return new_scratch<Complex<T>>(context_, chunk_ * entries()); }

  // Common to all columns of a call.
  StagedColumnsParams<T>& columns() { return columns_; }

  // f(begin, count) of every chunk of planes.
  template <class F>
  void for_each_chunk(F f) {
    for (int64_t begin = 0; begin < batch_.planes(); begin += chunk_) {
      order_.begin = begin;
      count_ = std::min(chunk_, batch_.planes() - begin);
      f();
    }
  }

  void rows(const Planes& a, const Planes& b, Complex<T>* work) { launch_rows(false, a, b, T(1), work); }
  void rows_inverse(Complex<T>* work, T scale, const Planes& out) { launch_rows(true, out, {}, scale, work); }
  void columns(Staged task, bool forward, bool inverse, Complex<T>* work) {
    StagedColumnsParams<T> params = columns_;
    params.task = task;
    params.forward = forward;
    params.inverse = inverse;
    params.order = order_;
    params.count = count_;
    params.work = work;
    const int64_t first = order_.begin / order_.members, last = (order_.begin + count_ - 1) / order_.members;
    const LaunchConfig config = this->config(dim3((last - first + 1) * params.parts, params.blocks()),
                                             shared_bytes<true>(column_, params.columns));
    std::visit([&](const auto& column) { check(launch_staged_columns(params, column, config), "staged_columns"); },
               column_);
  }
  // The sums of all parts of a group.
  void sum_parts(const T* sums, int64_t values, T* out) {
    check(sum_slabs(sums, out, static_cast<int>(groups()), static_cast<int>(parts()),
                    static_cast<int>(entries() * values), stream_of(context_)),
          "sum_slabs");
  }

 private:
  double pixels() const { return static_cast<double>(batch_.plane.height) * static_cast<double>(batch_.plane.width); }
  int64_t pairs() const { return (batch_.plane.height + 1) / 2; }
  LaunchConfig config(dim3 grid, size_t shared_bytes) const {
    return {.grid = grid, .block = dim3(kLineThreads), .shared_bytes = shared_bytes, .stream = stream_of(context_)};
  }

  using Length = std::variant<Line, PrimeLine<T>>;
  Length length_of(int n) const {
    if (largest_prime_factor(n) <= kLargestSmoothRadix) return make_line(n);
    PrimeLine<T> line = make_prime_line<T>(n);
    for_each_table(line, [&](auto*& table, int64_t entries) {
      table = new_scratch<std::remove_reference_t<decltype(*table)>>(context_, entries);
    });
    check(launch_prime_tables(line, stream_of(context_)), "prime_tables");
    return line;
  }
  template <bool Columns>
  static size_t shared_bytes(const Length& length, int count) {
    return std::visit([&]<class L>(const L& line) { return LineTransform<T, L, Columns>::shared_bytes(line, count); },
                      length);
  }

  void launch_rows(bool inverse, const Planes& a, const Planes& b, T scale, Complex<T>* work) {
    StagedRowsParams<T> params = rows_;
    params.a = image_of(a);
    params.b = image_of(b);
    params.order = order_;
    params.scale = scale;
    params.work = work;
    const LaunchConfig config = this->config(dim3(count_, (pairs() + params.lines - 1) / params.lines),
                                             shared_bytes<false>(row_, params.lines));
    std::visit([&](const auto& row) { check(launch_staged_rows(params, row, inverse, config), "staged_rows"); }, row_);
  }

  Batch batch_;
  const Context& context_;
  StagedOrder order_;
  int64_t chunk_ = 1, count_ = 0;
  StagedColumnsParams<T> columns_ = {};
  StagedRowsParams<T> rows_ = {};
  Length row_, column_;
};

constexpr Extent kNothingShared = {2, 2};

// The weight of a plane (n, c).
template <class T>
void set_weight(StagedColumnsParams<T>& params, const T* weight, Extent extent) {
  params.weight = weight;
  params.weight_sample = sample_step(extent);
  params.weight_channel = channel_step(extent);
}

}  // namespace

template <class T>
void rfft2(const Batch& batch, const Planes& input, double scale, T* out, const Context& context) {
  if (fused::rfft2(batch, input, scale, out, context)) return;
  Stages<T> stages(batch, kNothingShared, 1, context);
  Complex<T>* work = stages.work();
  auto* to = reinterpret_cast<Complex<T>*>(out);
  stages.columns().scale = static_cast<T>(scale);
  stages.for_each_chunk([&] {
    stages.rows(input, {}, work);
    stages.columns().out = to;
    stages.columns(Staged::spectrum, true, false, work);
    to += stages.chunk() * stages.entries();
  });
}

template <class T>
void irfft2(const Batch& batch, const T* input, double scale, const Planes& out, const Context& context) {
  if (fused::irfft2(batch, input, scale, out, context)) return;
  Stages<T> stages(batch, kNothingShared, 1, context);
  Complex<T>* work = stages.work();
  const auto* from = reinterpret_cast<const Complex<T>*>(input);
  stages.for_each_chunk([&] {
    stages.columns().other = from;
    stages.columns(Staged::image, false, true, work);
    stages.rows_inverse(work, static_cast<T>(scale), out);
    from += stages.chunk() * stages.entries();
  });
}

template <class T>
void spectral_filter(const Batch& batch, const Planes& input, const T* transfer, Extent transfers, bool complex,
                     const Planes& out, const Context& context) {
  if (fused::spectral_filter(batch, input, transfer, transfers, complex, out, context)) return;
  Stages<T> stages(batch, kNothingShared, 1, context);
  Complex<T>* work = stages.work();
  set_weight(stages.columns(), transfer, transfers);
  stages.for_each_chunk([&] {
    stages.rows(input, {}, work);
    stages.columns(complex ? Staged::filter_complex : Staged::filter, true, true, work);
    stages.rows_inverse(work, stages.per_entry(), out);
  });
}

template <class T>
void cross_spectrum(const Batch& batch, const Planes& a, const Planes& b, Extent outs, bool complex, T* out,
                    const Context& context) {
  if (fused::cross_spectrum(batch, a, b, outs, complex, out, context)) return;
  Stages<T> stages(batch, outs, 2, context);
  Complex<T>*work_a = stages.work(), *work_b = stages.work();
  const int64_t values = complex ? 2 : 1;
  T* sums =
      stages.parts() == 1 ? out : new_scratch<T>(context, stages.groups() * stages.parts() * stages.entries() * values);
  stages.columns().scale = T(1);
  stages.columns().sum_scale = stages.per_square();
  stages.for_each_chunk([&] {
    stages.rows(a, {}, work_a);
    stages.columns().out = work_a;
    stages.columns(Staged::spectrum, true, false, work_a);
    stages.rows(b, {}, work_b);
    stages.columns().other = work_a;
    stages.columns().sums = sums;
    stages.columns(complex ? Staged::cross : Staged::cross_real, true, false, work_b);
  });
  if (sums != out) stages.sum_parts(sums, values, out);
}

template <class T>
Energies<T> spectral_loss(const Batch& batch, const Planes& input, const Planes& target, const T* weight,
                          Extent weights, double scale, const Planes& grad, T* weight_grad, const Context& context) {
  T* fused_energy = new_scratch<T>(context, batch.planes());
  if (fused::spectral_loss(batch, input, target, weight, weights, scale, grad, fused_energy, weight_grad, context)) {
    return {fused_energy, 1};
  }
  Stages<T> stages(batch, weight_grad ? weights : kNothingShared, 1, context);
  Complex<T>* work = stages.work();
  const Energies<T> energies = {new_scratch<T>(context, batch.planes() * stages.column_blocks()),
                                stages.column_blocks()};
  T* sums = weight_grad;
  if (weight_grad && stages.parts() > 1) {
    sums = new_scratch<T>(context, stages.groups() * stages.parts() * stages.entries());
  }
  set_weight(stages.columns(), weight, weights);
  stages.columns().energy = energies.data;
  stages.columns().sum_scale = static_cast<T>(scale) * stages.per_square();
  stages.columns().sums = sums;
  stages.for_each_chunk([&] {
    stages.rows(input, target, work);
    stages.columns(Staged::loss, true, grad.data != nullptr, work);
    if (grad.data) stages.rows_inverse(work, static_cast<T>(2 * scale) * stages.per_entry(), grad);
  });
  if (sums != weight_grad) stages.sum_parts(sums, 1, weight_grad);
  return energies;
}

template <class T>
Energies<T> focal_frequency_loss(const Batch& batch, const Planes& input, const Planes& target, double alpha,
                                 bool log_matrix, double scale, const Planes& grad, const Context& context) {
  T* fused_energy = new_scratch<T>(context, batch.planes());
  if (fused::focal_frequency_loss(batch, input, target, alpha, log_matrix, scale, grad, fused_energy, context)) {
    return {fused_energy, 1};
  }
  Stages<T> stages(batch, kNothingShared, 1, context);
  Complex<T>* work = stages.work();
  const Energies<T> energies = {new_scratch<T>(context, batch.planes() * stages.column_blocks()),
                                stages.column_blocks()};
  StagedColumnsParams<T>& columns = stages.columns();
  columns.maxima = new_scratch<T>(context, stages.chunk() * stages.column_blocks());
  columns.matrix = {static_cast<T>(std::min(alpha, kLargestAlpha)), log_matrix, stages.unit_of_roots()};
  // A loss that counts for nothing needs no squares, and they may be out of range.
  if (scale == 0) columns.unit = 0;
  columns.sum_scale = static_cast<T>(scale) * stages.per_square();
  stages.for_each_chunk([&] {
    stages.rows(input, target, work);
    columns.energy = nullptr;
    stages.columns(Staged::focal_maximum, true, false, work);
    columns.energy = energies.data;
    stages.columns(Staged::focal, false, grad.data != nullptr, work);
    if (grad.data) stages.rows_inverse(work, static_cast<T>(2 * scale) * stages.per_entry(), grad);
  });
  return energies;
}

#define BLURFFT_INSTANTIATE(T)                                                                                       \
  template void rfft2(const Batch&, const Planes&, double, T*, const Context&);                                      \
  template void irfft2(const Batch&, const T*, double, const Planes&, const Context&);                               \
  template void spectral_filter(const Batch&, const Planes&, const T*, Extent, bool, const Planes&, const Context&); \
  template void cross_spectrum(const Batch&, const Planes&, const Planes&, Extent, bool, T*, const Context&);        \
  template Energies<T> spectral_loss(const Batch&, const Planes&, const Planes&, const T*, Extent, double,           \
                                     const Planes&, T*, const Context&);                                             \
  template Energies<T> focal_frequency_loss(const Batch&, const Planes&, const Planes&, double, bool, double,        \
                                            const Planes&, const Context&);
BLURFFT_INSTANTIATE(float)
BLURFFT_INSTANTIATE(double)
#undef BLURFFT_INSTANTIATE

}  // namespace blurfft::cuda
