// The planes of a batch, grouped into what is transformed together.
#pragma once

#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <new>
#include <vector>

#include "../../tensor.h"
#include "../capability.h"
#include "memory.h"
#include "parallel.h"

namespace blurfft::cpu {

// Channels of a channels_last sample that are transformed together; more would leave the second-level cache.
constexpr int64_t kMaxInterleave = 16;
// Work below which a second thread costs more than it brings, in pixels.
constexpr int64_t kGrainPixels = 1 << 13;

inline Element element(ScalarType type) {
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

inline void check_length(int64_t n, const char* what) {
  STD_TORCH_CHECK(supports_length(n), "blurfft: the cpu kernels transform lengths from 1 to ", kMaxLength, "; the ",
                  what, " is ", n);
}

template <class T>
Geometry<T> geometry(int64_t height, int64_t width, int64_t planes) {
  check_length(height, "height");
  check_length(width, "width");
  try {
    return {&line<T>(height), &line<T>(width), static_cast<int>(planes), row_groups<T>(height, routines<T>().lanes)};
  } catch (const std::bad_alloc&) {
    STD_TORCH_CHECK(false, "blurfft: cannot allocate the tables of ", height, "x", width, " transforms");
    throw;
  }
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
constexpr int64_t kTeamPixels = 1 << 16;

// Units that are left over when every thread has had as many whole ones are shared by all threads, where they are
// large and a considerable part of the work: units [alone, count) by the team.
struct TeamSplit {
  int64_t alone;
  Team team;

  explicit TeamSplit(const Units& u) : alone(u.count()), team{1, run_parts} {
    const int64_t threads = torch::stable::get_num_threads(), rest = u.count() % threads;
    if (u.pixels() * u.interleave < kTeamPixels || u.count() > std::min(4 * threads, kMaxParts)) return;
    if (rest == 0 || 2 * rest > threads) return;
    alone -= rest;
    team.parts = static_cast<int>(threads);
  }
  static TeamSplit none(const Units& u) {
    TeamSplit split(u);
    split.alone = u.count();
    return split;
  }
  static void run_parts(int parts, void (*f)(void*, int), void* context) {
    in_parallel(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) f(context, static_cast<int>(part));
    });
  }
};
// f(unit, work, team) for every unit.
template <class T, class F>
void each_unit(const Units& units, const TeamSplit& split, size_t work_elements, F f) {
  in_parallel(split.alone, units.grain(), [&](int64_t begin, int64_t end) {
    T* work = scratch<T>(work_elements);
    for (int64_t unit = begin; unit < end; ++unit) f(unit, work, nullptr);
  });
  for (int64_t unit = split.alone; unit < units.count(); ++unit) {
    f(unit, scratch<T>(work_elements), &split.team);
  }
}

// (1, planes, H, W), a copy where the strides are not those of one dimension.
inline Tensor planes_of(const Tensor& t) {
  return allocated(t.numel() * bytes_of(t.scalar_type()), [&] {
    return torch::stable::reshape(t, std::vector<int64_t>{1, -1, t.size(t.dim() - 2), t.size(t.dim() - 1)});
  });
}

}  // namespace blurfft::cpu
