"""The data room: rows of any known source and shape become tokenised splits and a card that hides nothing."""
