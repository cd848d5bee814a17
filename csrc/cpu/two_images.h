// The spectra of two images side by side.
#pragma once

#include "spectrum.h"

namespace blurfft::cpu {
namespace {

// In two workspaces, with their columns transformed.
template <class T>
struct TwoImages {
  Plane<T> p, q;

  TwoImages(const Geometry<T>& g, const Image& a, const Image& b, T* work)
      : p(g, work), q(g, work + workspace_elements(g, 1)) {
    load_columns(p, a);
    load_columns(q, b);
  }

  // each(group, c) when the rows of a group and plane are transformed, done(group) after its planes.
  template <class Each, class Done>
  BLURFFT_INLINE void each_rows(Each each, Done done) const {
    for (int group = 0; group < p.g.rows.groups; ++group) {
      p.look_ahead();
      load_rows(p, group);
      q.look_ahead();
      load_rows(q, group);
      for (int c = 0; c < p.g.planes; ++c) {
        transform_rows<false>(p, c);
        transform_rows<false>(q, c);
        each(group, c);
      }
      done(group);
    }
  }
};

}  // namespace
}  // namespace blurfft::cpu
