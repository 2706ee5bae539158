#include "patch_embed/op.h"

namespace aapt::patch_embed {

namespace portable {
void patch_embed(const Problem&);
}

namespace AAPT_ISA {
void patch_embed(const Problem& p) {
  portable::patch_embed(p);
}
}  // namespace AAPT_ISA

}  // namespace aapt::patch_embed
