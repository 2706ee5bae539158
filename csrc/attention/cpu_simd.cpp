#include "attention/op.h"

namespace aapt::attention {

namespace portable {
void attention(const Problem&);
}

namespace AAPT_ISA {
void attention(const Problem& p) {
  portable::attention(p);
}
}  // namespace AAPT_ISA

}  // namespace aapt::attention
