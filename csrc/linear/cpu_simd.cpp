#include "linear/op.h"

namespace aapt::linear {

namespace portable {
void linear(const Problem&);
}

namespace AAPT_ISA {
void linear(const Problem& p) {
  portable::linear(p);
}
}  // namespace AAPT_ISA

}  // namespace aapt::linear
