#include "variants.cuh"

namespace blurfft::cuda::variants {

std::string names(Size plane) {
  if (plane.height != plane.width) return "";
  if (plane.width == 256) return "push";
  const bool there = plane.width == 32 || plane.width == 64 || plane.width == 128;
  return there ? kNames : "";
}

Energies<float> spectral_loss(const std::string& name, const Batch& batch, const Planes& input, const Planes& target,
                              const float* weight, Extent weights, double scale, const Planes& grad,
                              const Context& context) {
  const auto as_word = [](const std::string& text) { return std::string(1, ' ').append(text).append(1, ' '); };
  if (as_word(names(batch.plane)).find(as_word(name)) == std::string::npos) return {};
  const int64_t parts = batch.plane.width == 256 ? 4 : 1;
  float* energy = new_scratch<float>(context, batch.planes() * parts);
  const SpectralLossParams<float> params = {image_of(input),
                                            image_of(target),
                                            image_of(grad),
                                            weight,
                                            sample_step(weights),
                                            channel_step(weights),
                                            static_cast<float>(scale),
                                            energy,
                                            nullptr,
                                            every_plane(batch),
                                            false};
  const int width = static_cast<int>(batch.plane.width), plane = width * width;
  for (const Image& image : {params.input, params.target, params.grad}) {
    const bool dense = image.row == width && image.column == 1 && image.channel == plane &&
                       image.sample == batch.channels * plane && reinterpret_cast<uintptr_t>(image.data) % 16 == 0;
    if (!dense || (image.element != Element::f32 && image.element != Element::bf16)) return {};
  }
  auto* const size = width == 32 ? launch_32 : width == 64 ? launch_64 : width == 128 ? launch_128 : launch_256;
  if (!size(name, params, stream_of(context))) return {};
  return {energy, parts};
}

}  // namespace blurfft::cuda::variants
