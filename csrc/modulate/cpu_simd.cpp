#include "modulate/op.h"

namespace aapt::modulate {

namespace portable {
void modulate(const Problem&);
}

namespace AAPT_ISA {
void modulate(const Problem& p) {
  portable::modulate(p);
}
}  // namespace AAPT_ISA

}  // namespace aapt::modulate
