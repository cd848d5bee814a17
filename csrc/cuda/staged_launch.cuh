// The launches that staged.cuh declares.
#pragma once

#include "staged.cuh"

namespace blurfft::cuda {

template <class T, class Length>
cudaError_t launch_staged_rows(const StagedRowsParams<T>& params, const Length& length, bool inverse,
                               const LaunchConfig& config) {
  return launch(inverse ? staged_rows_inverse<T, Length> : staged_rows<T, Length>, config, params, length);
}
template <class T, class Length>
cudaError_t launch_staged_columns(const StagedColumnsParams<T>& params, const Length& length,
                                  const LaunchConfig& config) {
  return launch(staged_columns<T, Length>, config, params, length);
}

#define BLURFFT_INSTANTIATE(T, Length)                                                                           \
  template cudaError_t launch_staged_rows(const StagedRowsParams<T>&, const Length&, bool, const LaunchConfig&); \
  template cudaError_t launch_staged_columns(const StagedColumnsParams<T>&, const Length&, const LaunchConfig&);

}  // namespace blurfft::cuda
