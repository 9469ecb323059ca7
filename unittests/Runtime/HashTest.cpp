#include "Support.h"
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

static std::string sha256(const std::string &text) {
  uint8_t digest[32];
  test_sha256(text.data(), text.size(), digest);
  std::string hex;
  for (uint8_t byte : digest) {
    char two[3];
    snprintf(two, sizeof two, "%02x", byte);
    hex += two;
  }
  return hex;
}

// Vectors of FIPS 180-4.
TEST(Hash, Sha256) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Hash, Crc32) {
  EXPECT_EQ(test_crc32("123456789", 9), 0xCBF43926u); // the check value of CRC-32/ISO-HDLC
  EXPECT_EQ(test_crc32("", 0), 0u);
}

TEST(Hash, Crc32OfOddLengths) {
  std::string text = "The quick brown fox jumps over the lazy dog";
  EXPECT_EQ(test_crc32(text.data(), text.size()), 0x414FA339u);
}

// Every f16 value survives the way through f32.
TEST(Floats, F16RoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    float f = test_f16_to_float(uint16_t(bits));
    if (std::isnan(f))
      EXPECT_TRUE(std::isnan(test_f16_to_float(test_float_to_f16(f))));
    else
      EXPECT_EQ(test_float_to_f16(f), bits);
  }
}

// Between two neighbours: below the middle down, above up, the middle to the even one.
TEST(Floats, F16RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    float low = test_f16_to_float(uint16_t(bits)), high = test_f16_to_float(uint16_t(bits + 1));
    float middle = (low + high) / 2;
    EXPECT_EQ(test_float_to_f16(middle), bits & 1 ? bits + 1 : bits);
    EXPECT_EQ(test_float_to_f16(std::nextafter(middle, 0.f)), bits);
    EXPECT_EQ(test_float_to_f16(std::nextafter(middle, 1e9f)), bits + 1);
  }
  EXPECT_EQ(test_float_to_f16(65519.f), 0x7bff);
  EXPECT_EQ(test_float_to_f16(65520.f), 0x7c00);
  EXPECT_EQ(test_float_to_f16(-INFINITY), 0xfc00);
}

TEST(Floats, Bf16RoundsToNearestEven) {
  EXPECT_EQ(test_float_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(test_float_to_bf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(test_float_to_bf16(1.0f + 0x1.8p-7f), 0x3f82);
  EXPECT_EQ(test_float_to_bf16(NAN) & 0x7fc0, 0x7fc0);
}
