// Restores a photograph with a compiled model, without Python: deblur MODEL.pt2 BLURRED.ppm RESTORED.ppm
#include <ATen/ops/empty.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

namespace {

// (1, 3, height, width), values from 0 to 1
at::Tensor read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string format;
  int64_t width = 0, height = 0, maximum = 0;
  file >> format >> width >> height >> maximum;
  file.get();
  if (!file || format != "P6" || maximum != 255) throw std::runtime_error(path + " is no PPM of 8 bits");
  at::Tensor pixels = at::empty({height, width, 3}, at::kByte);
  file.read(static_cast<char*>(pixels.data_ptr()), pixels.numel());
  if (!file) throw std::runtime_error(path + " is cut short");
  return pixels.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat).div(255).contiguous();
}

void write(const at::Tensor& image, const std::string& path) {
  const at::Tensor pixels = image[0].permute({1, 2, 0}).mul(255).round().to(at::kByte).contiguous();
  std::ofstream file(path, std::ios::binary);
  file << "P6\n" << pixels.size(1) << ' ' << pixels.size(0) << "\n255\n";
  file.write(static_cast<const char*>(pixels.data_ptr()), pixels.numel());
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: deblur MODEL.pt2 BLURRED.ppm RESTORED.ppm\n";
    return 2;
  }
  try {
    torch::inductor::AOTIModelPackageLoader model(argv[1]);
    write(model.run({read(argv[2])}).at(0), argv[3]);
  } catch (const std::exception& error) {
    std::cerr << "deblur: " << error.what() << '\n';
    return 1;
  }
}
