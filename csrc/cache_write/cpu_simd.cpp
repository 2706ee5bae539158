#include "cache_write/op.h"

namespace aapt::cache_write {

namespace portable {
void cache_write(const Problem&);
}

namespace AAPT_ISA {
void cache_write(const Problem& p) {
  portable::cache_write(p);
}
}  // namespace AAPT_ISA

}  // namespace aapt::cache_write
