// Classifies pictures with model.onnx. Needs a release of onnxruntime (unpacked), libvips and nlohmann-json:
//   apt-get install cmake g++ pkg-config libvips-dev nlohmann-json3-dev
//   cmake -B build -DONNXRUNTIME=/path/to/onnxruntime-linux-x64-1.23.2 && cmake --build build
//   build/classify ../../model.onnx PICTURE...
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>
#include <stdexcept>
#include <vector>
#include <vips/vips8>

// A picture as a person sees it: upright, 8 bits, on white where transparent; height x width x 3 numbers.
static std::vector<uint8_t> read(const char *path, std::vector<int64_t> &shape) {
  auto options = vips::VImage::option()->set("fail_on", VIPS_FAIL_ON_WARNING);
  vips::VImage image = vips::VImage::new_from_file(path, options).autorot();
  if (int64_t(image.width()) * image.height() > 50'000'000) throw std::runtime_error("more than 50 million pixels");
  if (image.interpretation() == VIPS_INTERPRETATION_CMYK) throw std::runtime_error("CMYK; convert it to RGB");
  if (image.format() != VIPS_FORMAT_UCHAR && image.format() != VIPS_FORMAT_USHORT)
    throw std::runtime_error("its numbers have no defined black and white");
  image = image.colourspace(VIPS_INTERPRETATION_sRGB).cast(VIPS_FORMAT_UCHAR);
  if (!image.has_alpha()) image = image.bandjoin(255);
  size_t size = 0;
  uint8_t *from = static_cast<uint8_t *>(image.write_to_memory(&size));
  std::vector<uint8_t> pixels;
  for (size_t i = 0; i < size; i += 4)
    for (int c = 0; c < 3; c++) pixels.push_back((from[i + c] * from[i + 3] + 255 * (255 - from[i + 3]) + 127) / 255);
  g_free(from);
  shape = {1, image.height(), image.width(), 3};
  return pixels;
}

int main(int count, char **arguments) try {
  if (count < 3) throw std::runtime_error("usage: classify model.onnx PICTURE...");
  if (VIPS_INIT(arguments[0])) throw std::runtime_error("libvips does not start");
  Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "classify");
  Ort::Session session(environment, std::filesystem::path(arguments[1]).c_str(), Ort::SessionOptions());
  Ort::AllocatorWithDefaultOptions allocator;
  auto stored = session.GetModelMetadata().LookupCustomMetadataMapAllocated("fewshot_sdk", allocator);
  auto labels = nlohmann::json::parse(stored.get())["labels"].get<std::vector<std::string>>();
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const char *inputs[] = {"images"}, *outputs[] = {"label", "probabilities", "known"};
  for (int i = 2; i < count; i++) try {
    std::vector<int64_t> shape;
    std::vector<uint8_t> pixels = read(arguments[i], shape);
    auto images = Ort::Value::CreateTensor<uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
    auto found = session.Run(Ort::RunOptions(), inputs, &images, 1, outputs, 3);
    int64_t label = *found[0].GetTensorData<int64_t>();
    bool known = *found[2].GetTensorData<bool>();
    std::printf("%s  %s  %.6f\n", arguments[i], known ? labels[label].c_str() : "unknown",
                found[1].GetTensorData<float>()[label]);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s cannot be read: %s\n", arguments[i], error.what());
  }
} catch (const std::exception &error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
