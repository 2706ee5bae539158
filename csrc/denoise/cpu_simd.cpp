#include "denoise/op.h"

namespace aapt::denoise {

namespace portable {
void denoise(const Problem&);
}

namespace AAPT_ISA {
void denoise(const Problem& p) {
  portable::denoise(p);
}
}  // namespace AAPT_ISA

}  // namespace aapt::denoise
