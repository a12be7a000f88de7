"""What happens in a motion, when, how often and on which side: programs from and to sentences, detections in joints."""
