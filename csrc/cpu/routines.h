// What is compiled for each instruction set, in plain pointers: one table of functions for each instruction set and
// arithmetic type.
//
// A *unit* is one plane, or the interleaved planes of a channels_last sample. A real plane is transformed as half as
// many complex columns (column j with column j + W/2); its spectrum is kept for rows 0 <= f1 <= H/2 and all W columns.
//
// Packed spectrum: [rows.groups][W][1 | 2 (re, im)][lanes]. Lanes are rows f1 = group * lanes + lane; columns are in
// the order of Line::position. Where row H/2 would need a group of its own it shares a transform with row 0, and
// follows the groups with columns as lanes: [W / lanes][1 | 2][lanes]. Unused lanes hold zero. The tables that spectra
// are multiplied by are packed spectra too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fft/geometry.h"

namespace blurfft::cpu {

// A small kernel's transforms: cos and sin of 2 pi f1 u / H and of 2 pi f2 v / W. The transform adds up in double: a
// response that the taps cancel in is right relative to itself, so that 0 is 0 next to any nsr. The adjoint has no such
// need.
template <class T>
struct TapGeometry {
  int kh, kw;
  const double* vertical;    // [rows.groups * lanes / double lanes][kh / 2 + 1][2][double lanes], lanes f1
  const double* horizontal;  // [W / 2 + 1][kw / 2 + 1][2]
  const T* rows;             // [H / 2 + 1][2][kh / 2 + 1 in whole vectors], lanes u
  const T* columns;          // as horizontal
};

// out = n * table applied to (a - b); energy[c] = n / 2 * <a - b, table applied to (a - b)>; power += power_scale * n
// |F(a - b)|^2. out, power and energy may be null; the steps advance from plane to plane of a unit and are 0 where
// planes share.
template <class T>
struct FilterArgs {
  const T* table;
  ptrdiff_t table_step;
  bool complex_table;
  bool streaming;
  T* power;
  ptrdiff_t power_step;
  T power_scale;
  double* energy;
};

// r = scale * (a - table applied to b). out = n * out_scale * r; energy[c] = n * <r, r> / scale; cross += n
// conj(F b) F r, of rows 0 and H/2 half of that, as they have no mirror row. out, cross and energy as above.
template <class T>
struct BlurArgs {
  const T* table;  // complex
  ptrdiff_t table_step;
  T scale, out_scale;
  bool streaming;
  T* cross;
  ptrdiff_t cross_step;
  double* energy;
};

template <class T>
struct FocalArgs {
  double alpha;
  bool log_matrix;
  T power_scale;  // makes |F e|^2 of the power in the table
  T table_scale;
  T* table;  // packed power in, weight out
};

template <class T>
struct WienerArgs {
  const T* kernel;  // (kh, kw)
  T nsr, eps;
  T* transfer;  // packed complex, kept for the gradient
  T* table;     // packed, assigned
  T table_scale;
  double* log_determinant;  // null where it is not wanted
};

// d loss / d omega = quadratic_scale * power + log_scale / omega on every frequency of the full spectrum.
template <class T>
struct WienerGradArgs {
  const T* power;
  const T* transfer;
  T nsr, eps;
  double quadratic_scale, log_scale;
  double* kernel;  // (kh, kw), assigned
  double* nsr_grad;
  double* eps_grad;
};

template <class T>
struct Routines {
  int lanes;
  // For a team of so many parts.
  size_t (*workspace_elements)(const Geometry<T>&, int parts);
  size_t (*tap_workspace_elements)(const Geometry<T>&, const TapGeometry<T>&);
  // A null team is the calling thread alone; the result is the same.
  void (*filter)(const Geometry<T>&, const Image& a, const Image* b, const Image* out, const FilterArgs<T>&, T* work,
                 const Team*);
  // sum += scale * n conj(F a) F b; needs two workspaces.
  void (*cross)(const Geometry<T>&, const Image& a, const Image& b, T scale, T* sum, ptrdiff_t sum_step, T* work);
  // Needs two workspaces.
  void (*blur_mse)(const Geometry<T>&, const Image& a, const Image& b, const Image* out, const BlurArgs<T>&, T* work);
  // out (H, W/2+1) interleaved complex = scale * unnormalised transform; one plane.
  void (*forward)(const Geometry<T>&, const Image& in, T* out, T scale, T* work, const Team*);
  void (*inverse)(const Geometry<T>&, const T* in, const Image& out, T scale, T* work, const Team*);
  void (*pack)(const Geometry<T>&, const T* half, bool complex_values, T scale, T* packed);
  // Times the multiplicity of the column.
  void (*unpack)(const Geometry<T>&, const T* packed, bool complex_values, T scale, bool multiplicity, T* half);
  size_t (*tap_table_elements)(const Geometry<T>&, int kh, int kw);
  TapGeometry<T> (*fill_taps)(const Geometry<T>&, int kh, int kw, T* tables);
  void (*transfer)(const Geometry<T>&, const TapGeometry<T>&, const T* kernel, T* packed, T* work);
  // cotangent is packed, per stored frequency (+f2 and -f2 both count).
  void (*transfer_grad)(const Geometry<T>&, const TapGeometry<T>&, const T* cotangent, double* kernel, T* work);
  void (*pack_cotangent)(const Geometry<T>&, const T* half, T* packed);
  void (*focal_weight)(const Geometry<T>&, const FocalArgs<T>&);
  void (*wiener)(const Geometry<T>&, const TapGeometry<T>&, const WienerArgs<T>&, T* work);
  void (*wiener_grad)(const Geometry<T>&, const TapGeometry<T>&, const WienerGradArgs<T>&, T* cotangent, T* work);
};

template <class T>
inline size_t packed_elements(const Geometry<T>& g, int lanes, bool complex_values) {
  const size_t vectors = static_cast<size_t>(g.rows.groups) * g.width();
  const size_t middle_row = g.rows.united ? (g.width() + lanes - 1) / lanes : 0;
  return (vectors + middle_row) * lanes * (complex_values ? 2 : 1);
}

struct Capability {
  const char* name;
  const Routines<float>* f32;
  const Routines<double>* f64;
};

}  // namespace blurfft::cpu
