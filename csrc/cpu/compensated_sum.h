// A sum of doubles that keeps what each addition rounds away.
#pragma once

namespace blurfft::cpu {
namespace {

// Knuth's two-sum. Losses in float64 have no wider type to be added up in.
class CompensatedSum {
 public:
  void add(double x) {
    const double sum = sum_ + x, part = sum - sum_;
    lost_ += (sum_ - (sum - part)) + (x - part);
    sum_ = sum;
  }
  // Beyond an infinite sum what is lost is NaN.
  double total() const { return lost_ == lost_ ? sum_ + lost_ : sum_; }

 private:
  double sum_ = 0, lost_ = 0;
};

}  // namespace
}  // namespace blurfft::cpu
