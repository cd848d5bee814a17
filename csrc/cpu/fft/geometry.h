// What is transformed: images in memory, the rows and columns of a plane, and who shares the work.
#pragma once

#include <cstddef>
#include <cstdint>

#include "plan.h"

namespace blurfft {

enum class Element : int { f32, f64, bf16, f16 };

// Element (h, w, c) of a unit lies at data + h * row + w * column + c * channel, in elements.
struct Image {
  void* data;
  Element element;
  int64_t row, column, channel;
};

// Rows a group of lanes transforms together: positions of row f1 and of its mirror -f1, which for 0 and H/2 is the row
// itself, or of row 0 and H/2 where these share a lane. Unused lanes point to the zero row behind the plane.
struct RowGroups {
  int groups;
  bool united;
  const int32_t* row;
  const int32_t* mirror;
};

// Of planes of this height, for vectors of so many lanes. Never freed, safe from any thread.
template <class T>
RowGroups row_groups(int64_t height, int lanes);

template <class T>
struct Geometry {
  const Line<T>* vertical;    // length H
  const Line<T>* horizontal;  // length W
  int planes;                 // interleaved in a unit
  RowGroups rows;

  int height() const { return vertical->n; }
  int width() const { return horizontal->n; }
  // What there and back multiply a plane by.
  double gain() const { return static_cast<double>(height()) * width() * vertical->gain * horizontal->gain; }
  // Rows with a lane of their own.
  int lane_rows() const { return height() / 2 + 1 - rows.united; }
};

// Threads that share a plane: run calls f(context, part) for every part, in any order, and waits for all.
struct Team {
  int parts;
  void (*run)(int parts, void (*f)(void* context, int part), void* context);
};

}  // namespace blurfft
